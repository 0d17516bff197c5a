"""A game that a person plays in the browser, on either side."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from archer.operations.playing import Candidate, Person, Sitting, favourite, hosted, opening
from archer.types import Utterance
from archer.view.data import number, told
from archer.view.judging import Judge, by_rank, ranked
from archer.view.tables import CANDIDATES, read

SEEDS = 2**53
"""JSON's numbers are exact below."""


class Table:
    """One game under way: the agent and its environment, a person in the place of one of them.

    wishes: ``side`` the person's, agent or environment; ``seed``; ``count`` utterances that the agent draws at each
        state; ``best``, whether the agent says what its critic likes best of them rather than the first; ``first``,
        what a person opens the conversation with as the environment, in place of what the run's own says.
    """

    def __init__(self, judge: Judge, wishes: Mapping[str, Any]) -> None:
        self._judge = judge
        self.side = read(wishes, "side", str, "agent")
        self._count, self._best = read(wishes, "count", int, 8), read(wishes, "best", bool, False)
        seed, first = read(wishes, "seed", int, 0), read(wishes, "first", str, "")
        if self.side not in ("agent", "environment"):
            raise ValueError(f"side must be agent or environment, got {self.side!r}")
        if not (1 <= self._count <= CANDIDATES and 0 <= seed < SEEDS):
            raise ValueError(f"count must be from 1 to {CANDIDATES} and seed from 0 to {SEEDS - 1}")
        if self._best and not judge.chooses:
            raise ValueError("this run has no critic that could choose: the agent says what comes first")
        self._by: list[str] = []
        self._typed = ("", False)
        with ExitStack() as closing:
            if self.side == "environment":
                person = Person(first or opening(judge.run, seed), lambda said: self._typed)
                self._sitting = Sitting(judge.advisor, lambda: person, seed)
            else:
                self._sitting = Sitting(judge.advisor, closing.enter_context(hosted(judge.run)), seed)
            closing.callback(self._sitting.close)
            self._draw()
            self._closing = closing.pop_all()  # what goes wrong until here leaves nothing open

    def move(self, wishes: Mapping[str, Any]) -> None:
        """What the person does: ``say`` a text or ``pick`` a candidate or let the agent ``step``, as the agent;
        ``answer``, with ``over``, as the environment. ``turn`` is the one that the person saw: a second click on the
        same button is no second move."""
        if read(wishes, "turn", int, -1) != len(self._sitting.turns) or self._sitting.end is not None:
            raise ValueError("the game has gone on since: load the page again")
        if self.side == "environment":
            self._typed = read(wishes, "answer", str, ""), read(wishes, "over", bool, False)
            self._say(self._choice.utterance, "agent")
        elif "say" in wishes:
            self._say(self._sitting.typed(read(wishes, "say", str, "")), "you")
        elif "pick" in wishes:
            place = read(wishes, "pick", int, -1)
            if not 0 <= place < len(self._offered):
                raise ValueError(f"there is no candidate {place}")
            self._say(self._offered[place].utterance, "you")
        elif read(wishes, "step", bool, False):
            self._say(self._choice.utterance, "agent")
        else:
            raise ValueError("say, pick or step: nothing was said")

    def state(self) -> dict[str, Any]:
        """The game so far, and what the agent would say next."""
        sitting = self._sitting
        turns = [
            told(turn, score, self._judge) | {"by": by}
            for turn, score, by in zip(sitting.turns, sitting.scores, self._by, strict=True)
        ]
        score = self._offered[0].score if self._offered else None
        return {
            "side": self.side, "seed": sitting.seed, "judged_by": self._judge.name if self._judge.critic else None,
            "iteration": self._judge.run.iteration, "turns": turns, "observation": sitting.observation,
            "v": number(score.v) if score else None, "drawn": self._count,
            "discount": self._judge.run.config.critic.discount,
            "candidates": [ranked(one) | {"chosen": one is self._choice} for one in self._offered],
            "end": str(sitting.end) if sitting.end else None, "return": sum(turn.reward for turn in sitting.turns),
        }  # fmt: skip

    def close(self) -> None:
        """Done with the game."""
        self._closing.close()

    def _say(self, utterance: Utterance, by: str) -> None:
        self._sitting.say(utterance)
        self._by.append(by)
        self._draw()

    def _draw(self) -> None:
        drawn = self._sitting.offer(self._count) if self._sitting.end is None else []
        self._offered: list[Candidate] = by_rank(drawn)
        if drawn:
            self._choice = favourite(drawn) if self._best else drawn[0]
