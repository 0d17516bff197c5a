"""More than one machine: players anywhere in a Ray cluster, a ledger of their games, the learner where it always was."""
