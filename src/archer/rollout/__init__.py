"""Play: turn a policy and environments into episodes."""
