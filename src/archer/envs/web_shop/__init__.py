"""Mini web shop: search, look, choose, buy."""
