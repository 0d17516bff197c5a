"""Check an environment: does it keep to the contract, and what will a run with it be like?"""

from __future__ import annotations

import pickle
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np

from archer.envs.base import (
    ContractError,
    Demonstrated,
    Environment,
    Player,
    begin_player,
    best_known_return,
    check_reset,
    check_step,
    close,
)
from archer.envs.findings import Finding
from archer.envs.hosting import Hosting
from archer.seeds import training_seed
from archer.types import Observation

WORDS = ("hello", "yes", "look", "1", "What is it?")
"""Said where there is no demonstrator."""
ODD = ("", " ", "äöü 你好", 'a "quoted" word\nand a second line', "word " * 200, "\0", "²")
"""What an agent may say too."""
MOST_TURNS = 500
"""Turns after which a game is taken for endless."""
SLOW = 0.005
"""Seconds of a step above which workers pay."""
LONG = 2_000
"""Characters of an observation above which a run should be told how much context it has."""


@dataclass(frozen=True)
class Trace:
    """A game of ``check``: everything that was said and heard."""

    seed: int
    said: tuple[str, ...]
    heard: tuple[Observation, ...]
    rewards: tuple[float, ...]
    over: bool


def check(
    make_env: Callable[[], Any],
    games: int = 20,
    timeout: float = 10.0,
    report: Callable[[int], None] = lambda games: None,
) -> list[Finding]:
    """Play ``games`` games and say what is wrong with an environment and how to mend it; nothing is raised.

    ``report`` hears how many more games are over. An answer that takes longer than ``timeout`` seconds counts as none.
    """
    with Hosting(make_env, timeout=timeout) as hosted:
        plain = make_env()
        player = plain.demonstrator if isinstance(plain, Demonstrated) else _prober
        found: list[Finding] = []
        traces: list[Trace] = []
        try:
            for game in range(games):
                traces.append(_play(hosted(), begin_player(player, game), training_seed(0, game)))
                report(1)
        except Exception as error:
            return [_raised(error)]
        found.append(Finding("ok", "contract", f"{games} games, {sum(len(t.said) for t in traces)} steps"))
        looks = [
            partial(_ends, traces),
            partial(_any_text, hosted),
            partial(_repeats, hosted, traces[0]),
            partial(_seeds_differ, traces),
            partial(_again, hosted, traces),
            partial(_after_the_end, hosted, traces),
            partial(_rewards, traces),
            partial(_text, traces),
            partial(_grows, traces),
            partial(_pickles, make_env),
            # without the watch over it, which takes time itself
            partial(_speed, hosted if hosted.waits else make_env, traces[0], hosted.waits),
            partial(_players, plain),
            partial(_lines, traces, isinstance(plain, Demonstrated)),
        ]
        for look in looks:
            try:
                found.append(look())
            except Exception as error:
                found.append(_raised(error))
        close(plain)
        return found


def _prober(seed: int) -> Player:
    chance = random.Random(seed)
    return lambda observation: chance.choice(WORDS)


def _raised(error: Exception) -> Finding:
    return Finding("error", "contract" if isinstance(error, ContractError) else "failure", _told(error))


def _told(error: Exception) -> str:
    where = f"{', '.join(error.__notes__)}: " if hasattr(error, "__notes__") else ""
    return f"{where}{type(error).__name__}: {error}"


def _play(env: Environment, player: Player, seed: int, most: int = MOST_TURNS) -> Trace:
    """One game of ``player``, of at most so many turns."""
    observation, _ = check_reset(env.reset(seed=seed))
    words: list[str] = []
    heard, rewards = [observation], []
    over = False
    while not over and len(words) < most:
        word = player(observation)
        if not isinstance(word, str):
            raise ContractError(f"the demonstrator returned {word!r}; a player must return a string")
        try:
            observation, reward, terminated, truncated, _ = check_step(env.step(word))
        except Exception as error:
            error.add_note(f"seed {seed}, turn {len(words) + 1}, step({word[:40]!r})")
            raise
        words.append(word)
        heard.append(observation)
        rewards.append(reward)
        over = terminated or truncated
    close(env)
    return Trace(seed, tuple(words), tuple(heard), tuple(rewards), over)


def _ends(traces: Sequence[Trace]) -> Finding:
    endless = sum(not trace.over for trace in traces)
    turns = [len(trace.said) for trace in traces]
    if endless:
        return Finding("note", "end", f"{endless} of {len(traces)} games went on for {MOST_TURNS} turns")
    return Finding("ok", "end", f"games end after {min(turns)} to {max(turns)} turns")


def _any_text(make: Callable[[], Environment]) -> Finding:
    for probe in (*WORDS, *ODD):
        env = make()
        env.reset(seed=0)
        try:
            check_step(env.step(probe))
        except Exception as error:
            return Finding("error", "any text", f"step({probe[:40]!r}) failed: {_told(error)}")
        close(env)
    return Finding("ok", "any text", f"{len(ODD)} odd utterances were answered")


def _repeats(make: Callable[[], Environment], first: Trace) -> Finding:
    state, numbers = random.getstate(), np.random.get_state()
    try:
        random.seed(12345)
        np.random.seed(12345)  # as another run would have left them
        words = iter(first.said)
        again = _play(make(), lambda _: next(words), first.seed, len(first.said))
    finally:
        random.setstate(state)
        np.random.set_state(numbers)
    if (again.heard, again.rewards) != (first.heard, first.rewards):
        same = [one == other for one, other in zip(first.heard, again.heard, strict=False)]
        turn = same.index(False) if False in same else len(again.said)
        return Finding("error", "seeding", f"the same seed and words gave another game, from turn {turn} on")
    return Finding("ok", "seeding", "the same seed and words give the same game")


def _seeds_differ(traces: Sequence[Trace]) -> Finding:
    different = {(str(trace.heard), trace.rewards) for trace in traces}
    if len(different) == 1 < len(traces):
        return Finding("note", "variety", f"{len(traces)} seeds gave the same game")
    return Finding("ok", "variety", f"{len(traces)} seeds gave {len(different)} different games")


def _again(make: Callable[[], Environment], traces: Sequence[Trace]) -> Finding:
    env = make()
    for game in (len(traces) - 1, 0):
        trace = traces[game]
        opened = check_reset(env.reset(seed=trace.seed))[0]
        heard = [opened, *(check_step(env.step(word))[0] for word in trace.said)]
        if heard != list(trace.heard):
            return Finding("error", "reuse", "a copy that has played before plays otherwise than a fresh one")
    close(env)
    return Finding("ok", "reuse", "a copy plays one game after another")


def _after_the_end(make: Callable[[], Environment], traces: Sequence[Trace]) -> Finding:
    trace = traces[0]
    if not trace.over:
        return Finding("note", "after the end", "no game ended, so that was not looked at")
    env = make()
    env.reset(seed=trace.seed)
    for word in trace.said:
        env.step(word)
    try:
        env.step("hello")
    except Exception:
        return Finding("ok", "after the end", "a finished game refuses to go on")
    return Finding("note", "after the end", "a finished game goes on")


def _rewards(traces: Sequence[Trace]) -> Finding:
    returns = [sum(trace.rewards) for trace in traces]
    rewards = [reward for trace in traces for reward in trace.rewards]
    span = f"rewards {min(rewards):g} to {max(rewards):g}, returns {min(returns):g} to {max(returns):g}"
    return Finding("note" if len(set(returns)) == 1 else "ok", "rewards", span)


def _text(traces: Sequence[Trace]) -> Finding:
    texts = [o if isinstance(o, str) else str(o) for trace in traces for o in trace.heard]
    longest = f"observations have up to {max(map(len, texts)):,} characters"
    odd = {c for text in texts for c in text if (ord(c) < 32 and c not in "\n\t\r") or 0xD800 <= ord(c) < 0xE000}
    if odd:
        return Finding(
            "note", "text", f"{longest}, control characters among them: {', '.join(map(repr, sorted(odd)[:3]))}"
        )
    return Finding("note" if max(map(len, texts)) > LONG else "ok", "text", longest)


def _grows(traces: Sequence[Trace]) -> Finding:
    pairs = [(str(before), str(after)) for trace in traces for before, after in pairwise(trace.heard)]
    growing = sum(len(before) > 10 and after.startswith(before.rstrip()) for before, after in pairs)
    if growing > len(pairs) / 2:
        return Finding("note", "history", "observations repeat what was said before")
    return Finding("ok", "history", "an observation is what is new")


def _pickles(make_env: Callable[[], Environment]) -> Finding:
    try:
        pickle.dumps(make_env)
    except Exception as error:
        return Finding("note", "processes", f"cannot be sent to a process of its own: {_told(error)}")
    return Finding("ok", "processes", "can run in processes of its own")


def _speed(make: Callable[[], Environment], trace: Trace, waits: bool) -> Finding:
    env = make()
    began = time.perf_counter()
    env.reset(seed=trace.seed)
    reset = time.perf_counter() - began
    seconds = []
    for word in trace.said:
        began = time.perf_counter()
        env.step(word)
        seconds.append(time.perf_counter() - began)
    close(env)
    slow = max(median(seconds), reset) > SLOW and not waits
    told = f"{median(seconds) * 1e3:.3g} ms a step, {reset * 1e3:.3g} ms a reset"
    return Finding("note" if slow else "ok", "speed", told)


def _players(env: Any) -> Finding:
    if not isinstance(env, Demonstrated):
        return Finding("note", "players", "no demonstrator(seed)")
    best = best_known_return(env)
    return Finding("ok", "players", "a demonstrator" + ("" if best is None else f", best known return {best:g}"))


def _lines(traces: Sequence[Trace], demonstrated: bool) -> Finding:
    several = sum("\n" in word for trace in traces for word in trace.said)
    if several and demonstrated:
        return Finding("note", "lines", f"{several} utterances of the demonstrator have several lines")
    return Finding("ok", "lines", "an utterance is one line")
