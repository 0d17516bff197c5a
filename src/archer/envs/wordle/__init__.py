"""Wordle: find a word of five letters."""
