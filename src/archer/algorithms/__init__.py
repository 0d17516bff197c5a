"""The papers: what learns at the high and at the low level, and presets that combine them."""
