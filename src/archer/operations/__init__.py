"""What is done with a run: collect its games, score, examine, show, play with it, export. All may score."""
