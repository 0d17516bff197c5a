"""The records that flow through the library: utterances, turns and episodes. No torch, no input or output.

Letters used everywhere: B episodes in a batch, N turns in a batch, K siblings per state, T tokens.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int32]
"""Token ids, shape [T]."""

LogProbs = npt.NDArray[np.float32]
"""Natural-log probabilities, shape [T]."""

Message = Mapping[str, str]
"""A chat message, ``{"role": ..., "content": ...}``."""

Observation = str | list[Message]
"""What an environment says: only what is new since the last utterance (or all of it, see ``history="replace"``)."""


def observation_text(observation: Observation) -> str:
    """An observation as plain text; chat messages become ``role: content`` lines."""
    if isinstance(observation, str):
        return observation
    return "\n".join(f"{message['role']}: {message['content']}" for message in observation)


class End(enum.StrEnum):
    """Why an episode ended. Only ``TERMINATED`` is the task's own end; every other one truncates it."""

    TERMINATED = "terminated"
    TURN_LIMIT = "turn_limit"
    TOKEN_LIMIT = "token_limit"
    ENV_ERROR = "env_error"
    TIMEOUT = "timeout"


@dataclass(frozen=True, eq=False, slots=True)
class Utterance:
    """Tokens as they were sampled, with their log-probabilities under the policy that sampled them."""

    ids: Ids
    """Token ids, shape [T]; the stop token is included iff the policy produced it."""
    logprobs: LogProbs
    """Log-probability of each id at temperature 1 under the full softmax, shape [T]."""
    text: str
    """The ids decoded, without special tokens."""
    engine_logprobs: LogProbs | None = None
    """Where another engine than the built-in one said it: the same as that engine computes it, shape [T]. It sampled by
    its own numbers, ``logprobs`` are the learner's."""

    def __post_init__(self) -> None:
        if self.ids.ndim != 1 or self.ids.shape != self.logprobs.shape:
            raise ValueError(f"ids {self.ids.shape} and logprobs {self.logprobs.shape} must have one shape [T]")


@dataclass(frozen=True, eq=False, slots=True)
class Turn:
    """One step of the high-level MDP: at a state (``prompt_ids``) an utterance is said and rewarded."""

    prompt_ids: Ids
    """The state: the exact ids the policy was prompted with, shape [T]. In an episode that only grows, a view of
    the same array as the next turn's, so a whole conversation is stored once."""
    utterance: Utterance
    """The action: what the agent said."""
    observation: Observation
    """What the environment said just before the utterance."""
    reward: float
    """Reward of this turn, in the environment's units."""
    info: Mapping[str, object] = field(default_factory=dict)
    """What the environment's ``info`` held after this step."""


def share(turns: Sequence[Turn], final: Ids) -> tuple[Turn, ...]:
    """The same turns, with every state that later ones go on from a view of theirs: stored once."""
    shared: list[Turn] = []
    whole = final
    for turn in reversed(turns):
        length = len(turn.prompt_ids)
        whole = whole if np.array_equal(whole[:length], turn.prompt_ids) else turn.prompt_ids
        shared.append(replace(turn, prompt_ids=whole[:length]))
    return tuple(reversed(shared))


@dataclass(frozen=True, eq=False)
class Episode:
    """One whole conversation."""

    turns: tuple[Turn, ...]
    end: End
    final_prompt_ids: Ids
    """The state after the last turn; a truncated episode bootstraps from it."""
    seed: int
    """Seed its environment was reset with."""
    task: str
    """Name of the environment."""
    policy_version: int
    """Count of actor updates behind the policy that played it; -1 for what no policy of this run played."""
    final_observation: Observation | None = None
    """What the environment said after the last utterance; None where that is not known as text."""

    def __post_init__(self) -> None:
        if not self.turns:
            raise ValueError("an episode needs at least one turn")

    @property
    def terminated(self) -> bool:
        """Whether the task ended by itself; otherwise Bellman targets bootstrap at the final state."""
        return self.end is End.TERMINATED

    @property
    def rewards(self) -> npt.NDArray[np.float32]:
        """Reward of every turn, shape [turns]."""
        return np.array([turn.reward for turn in self.turns], dtype=np.float32)

    @property
    def tokens_read(self) -> int:
        """Tokens that a model must be able to read: of the longest state, what is said there, and the final state."""
        spans = (len(turn.prompt_ids) + len(turn.utterance.ids) for turn in self.turns)
        return max(len(self.final_prompt_ids), *spans)

    @property
    def return_(self) -> float:
        """Undiscounted sum of rewards."""
        return float(sum(turn.reward for turn in self.turns))

    @property
    def failed(self) -> bool:
        """Whether it was cut off by a failure of its environment: then its return says nothing about how it was
        played. Where every turn costs something it is even the best."""
        return self.end in (End.ENV_ERROR, End.TIMEOUT)

    @property
    def tokens_said(self) -> int:
        """Tokens of all utterances."""
        return sum(len(turn.utterance.ids) for turn in self.turns)

    @property
    def logprobs(self) -> LogProbs:
        """Log-probability of every token of all utterances, one utterance after the other, [tokens_said]."""
        return np.concatenate([turn.utterance.logprobs for turn in self.turns])

    @property
    def engine_gap(self) -> LogProbs:
        """Nats between learner and engine on each token that another engine than the built-in one said, [tokens]."""
        both = [(said.logprobs, said.engine_logprobs) for said in (turn.utterance for turn in self.turns)]
        gaps = [np.abs(learner - engine) for learner, engine in both if engine is not None]
        return np.concatenate(gaps) if gaps else np.zeros(0, np.float32)

    @property
    def success(self) -> bool | None:
        """``info["success"]`` of the last turn where the environment reports it, else None."""
        flag = self.turns[-1].info.get("success")
        return None if flag is None else bool(flag)

    def with_logprobs(self, logprobs: LogProbs, engine: LogProbs | None = None) -> Episode:
        """The same episode with other log-probabilities of what was said in it, [tokens_said] as in ``logprobs``.

        engine: those of the engine that said it, as many; without them each utterance keeps what it has. ValueError
        where a number is missing or one too many.
        """
        ends = np.cumsum([len(turn.utterance.ids) for turn in self.turns])
        if any(len(given) != ends[-1] for given in (logprobs, engine) if given is not None):
            raise ValueError(f"{ends[-1]} tokens were said, and as many log-probabilities are needed")
        own = np.split(logprobs, ends[:-1])
        engines = [turn.utterance.engine_logprobs for turn in self.turns]
        if engine is not None:
            engines = [*np.split(engine, ends[:-1])]
        turns = tuple(
            replace(turn, utterance=replace(turn.utterance, logprobs=said, engine_logprobs=elsewhere))
            for turn, said, elsewhere in zip(self.turns, own, engines, strict=True)
        )
        return replace(self, turns=turns)

    def _repr_html_(self) -> str:
        """As notebooks show it."""
        from archer.report.notebook import episode_html  # not before somebody looks

        return episode_html(self)

    def __len__(self) -> int:
        return len(self.turns)


def moment(state: Ids, utterance: Utterance) -> Episode:
    """To a critic, a game of one turn: a state and what is said at it."""
    return Episode(
        turns=(Turn(state, utterance, "", 0.0, {}),),
        end=End.TURN_LIMIT,
        final_prompt_ids=np.concatenate([state, utterance.ids]),
        seed=0,
        task="",
        policy_version=0,
    )
