"""More than one machine: players anywhere in a Ray cluster, a ledger of their games, and the learner as ever."""
