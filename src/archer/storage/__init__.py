"""What lies on a disk, never half-written, never unpickled: runs, their episodes, checkpoints, metrics; logs."""
