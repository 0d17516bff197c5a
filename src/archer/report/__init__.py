"""Pictures and tables of a run; no torch here."""
