"""Twenty Questions, exact and offline."""
