"""Language models behind an environment, as oracles and simulated users: one batched interface, a cache, an account."""
