"""Best of N: the critic chooses what to say among utterances that the policy offers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from archer.envs.base import Environment, close
from archer.models.actor import Actor
from archer.models.batch import collate
from archer.models.critic import Critic
from archer.rollout.decoders import refresh
from archer.rollout.play import Game, Limits, Rules, begin, count_copies, take_turn
from archer.rollout.prompts import PlainText
from archer.rollout.sampling import Sampling
from archer.rollout.siblings import SiblingSampler
from archer.types import End, Episode, Ids, Turn, Utterance


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
    layout: type[PlainText] = PlainText,
    policy_version: int = 0,
) -> list[Episode]:
    """As ``play``, but each turn says the one of ``count`` sampled utterances that min Q likes best.

    Costs ``count`` utterances and a pass of the critic per turn, and histories are read anew in each. What a game
    says depends on its seed, how often that stood in ``seeds`` before, and the weights only.
    """
    if count < 1:
        raise ValueError(f"best of {count} cannot be chosen; at least 1 utterance is needed")
    rules = Rules(task, layout(actor.tokenizer), sampling, limits, policy_version)
    refresh(actor)
    sampler = SiblingSampler(actor, sampling)
    places = list(zip(seeds, count_copies(seeds), strict=True))
    episodes: list[Episode] = []
    with limits.executor() as environments:
        for start in range(0, len(seeds), limits.parallel):
            part = places[start : start + limits.parallel]
            begun = [environments.submit(begin, make_env(), seed, copy, rules) for seed, copy in part]
            table = [future.result() for future in begun]
            done: dict[int, Episode] = {}
            while len(done) < len(table):
                live = [index for index in range(len(table)) if index not in done]
                chosen = _choose(count, critic, sampler, [table[index] for index in live])
                answers = [
                    environments.submit(take_turn, *table[index], utterance, rules)
                    for index, utterance in zip(live, chosen, strict=True)
                ]
                for index, utterance, answer in zip(live, chosen, answers, strict=True):
                    (game, state), outcome = table[index], answer.result()
                    if isinstance(outcome, Episode):
                        done[index] = outcome
                        close(game.env)
                    else:
                        table[index] = game, np.concatenate([state, utterance.ids, outcome])
            episodes += [done[index] for index in range(len(table))]
    return episodes


def _choose(count: int, critic: Critic, sampler: SiblingSampler, table: Sequence[tuple[Game, Ids]]) -> list[Utterance]:
    """The critic's favourite of ``count`` utterances at the state of every game."""
    states = [state for _, state in table]
    groups = sampler.at(states, count, [[game.seed, len(game.turns), game.copy] for game, _ in table])
    # To the critic, a game of one turn: the state, one of the candidates as what was said, all of them as siblings.
    cut = [
        Episode(
            turns=(Turn(state, group[0], "", 0.0, {}),),
            end=End.TURN_LIMIT,
            final_prompt_ids=np.concatenate([state, group[0].ids]),
            seed=0,
            task="",
            policy_version=0,
        )
        for state, group in zip(states, groups, strict=True)
    ]
    with torch.no_grad():
        values = critic(collate(cut, [[group] for group in groups]).to(sampler.actor.device))
    best = values.q_siblings.amin(dim=-1).argmax(dim=1).tolist()
    return [group[index] for group, index in zip(groups, best, strict=True)]
