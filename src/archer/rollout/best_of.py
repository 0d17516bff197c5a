"""Best of N: the critic chooses what to say among utterances that the policy offers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch

from archer.envs.base import Environment
from archer.models.actor import Actor
from archer.models.batch import collate
from archer.models.critic import Critic
from archer.models.packing import in_parts
from archer.rollout.play import Game, Limits, Rules, begin, count_copies, play, take_turn
from archer.rollout.prompts import LayoutMaker, PlainText
from archer.rollout.sampling import Sampling
from archer.rollout.seat import Faults, Seat
from archer.rollout.speaking import BUILT_IN, Sampler, Speaker
from archer.types import Episode, Utterance, moment


def play_best_of(
    count: int,
    critic: Critic,
    actor: Actor,
    make_env: Callable[[], Environment],
    seeds: Sequence[int],
    *,
    task: str,
    sampling: Sampling,
    limits: Limits,
    layout: LayoutMaker = PlainText,
    policy_version: int = 0,
    faults: Faults | None = None,
    report: Callable[[int], None] = lambda games: None,
    speaker: Speaker = BUILT_IN,
) -> list[Episode]:
    """As ``play``, but each turn says the one of ``count`` sampled utterances that min Q likes best.

    Costs ``count`` utterances and a pass of the critic per turn, and histories are read anew in each. What a game
    says depends on its seed, how often that stood in ``seeds`` before, and the weights only.
    """
    if count < 1:
        raise ValueError(f"best of {count} cannot be chosen; at least 1 utterance is needed")
    rules = Rules(task, layout(actor.tokenizer), sampling, limits, policy_version)
    sampler = speaker.sampler(actor, sampling)
    places = list(zip(seeds, count_copies(seeds), strict=True))
    faults = faults or Faults(len(seeds), limits.max_failures)
    episodes: list[Episode] = []
    with limits.executor(make_env) as environments:
        for start in range(0, len(seeds), limits.parallel):
            part = places[start : start + limits.parallel]
            seats = [Seat(make_env, faults, limits.retries) for _ in part]
            begun = [
                environments.submit(begin, seat, seed, copy, rules)
                for seat, (seed, copy) in zip(seats, part, strict=True)
            ]
            games = [future.result() for future in begun]
            done: dict[int, Episode] = {}
            live = [index for index, game in enumerate(games) if game is not None]
            report(len(games) - len(live))
            while live:
                table = [game for index in live if (game := games[index]) is not None]
                chosen = _choose(count, critic, sampler, table)
                answers = [
                    environments.submit(take_turn, game, utterance, rules)
                    for game, utterance in zip(table, chosen, strict=True)
                ]
                outcomes = dict(zip(live, [answer.result() for answer in answers], strict=True))
                done |= {index: outcome for index, outcome in outcomes.items() if isinstance(outcome, Episode)}
                live = [index for index, outcome in outcomes.items() if isinstance(outcome, Game)]
                report(len(table) - len(live))
            for seat in seats:
                seat.close()
            episodes += [done[index] for index in sorted(done)]
    return speaker.settled(actor, episodes)


def player_of(best_of: int, critic: Critic | None, speaker: Speaker) -> Callable[..., list[Episode]]:
    """How to play: the policy's first word, or the critic's choice among ``best_of`` of them; said by ``speaker``."""
    if not best_of:
        return partial(play, speaker=speaker)
    if critic is None:
        raise ValueError("this method has no critic (critic.method is 'none'), so none can choose what to say")
    return partial(play_best_of, best_of, critic, speaker=speaker)


def _choose(count: int, critic: Critic, sampler: Sampler, table: Sequence[Game]) -> list[Utterance]:
    """The critic's favourite of ``count`` utterances at the state of every game."""
    states = [game.told.ids for game in table]
    groups = sampler.at(states, count, [[game.seed, len(game.turns), game.copy] for game in table])
    # One of the candidates as what was said, all of them as siblings.
    cut = [moment(state, group[0]) for state, group in zip(states, groups, strict=True)]
    offered = [[group] for group in groups]
    best: list[int] = []
    for part in in_parts(cut, offered):
        with torch.no_grad():
            values = critic(collate(cut[part], offered[part]).to(sampler.actor.device))
        best += values.q_siblings.amin(dim=-1).argmax(dim=1).tolist()
    return [group[index] for group, index in zip(groups, best, strict=True)]
