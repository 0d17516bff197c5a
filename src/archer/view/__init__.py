"""Runs in a browser: curves, every game with what the critic thought of it, its health, and playing with it."""
