"""Runs of several methods over seeds: their curves, statistics, and what they cost; no torch here."""
