"""What memory a run will need, found before anything is loaded: its own steps, on tensors that have no numbers."""
