"""Critic health: what played games say about the critic that valued them, and the verdict."""
