"""Purposes of the random streams of a run.

Every draw derives from (run seed, iteration, purpose): no generator needs to be saved, and a resumed run draws what the
uninterrupted one would have.
"""

from __future__ import annotations

CRITIC, ACTOR, SUPERVISED, CRITIC_START, ACTOR_START, FOLLOWING = 1, 2, 3, 4, 5, 6
