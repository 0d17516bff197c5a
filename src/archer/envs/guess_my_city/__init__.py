"""Guess My City, exact and offline."""
