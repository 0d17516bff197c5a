"""The networks: actor, critics, the built-in tiny default, and batches."""
