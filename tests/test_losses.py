"""Losses and returns against arithmetic done by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from archer.losses import cloning_loss, critic_loss, kl_penalty, reinforce_loss
from archer.muon import Muon, orthogonal
from archer.optimize import Optimizer, hidden_matrices, polyak_update, warmup_decay
from archer.returns import lambda_returns


def test_critic_loss_averages_turns_and_adds_heads() -> None:
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    targets = torch.tensor([[0.0, 2.0], [1.0, 1.0]])
    loss, _ = critic_loss(values, targets)
    # head 1: ((1-0)² + (3-1)²)/2 = 2.5; head 2: (0 + 3²)/2 = 4.5; together 7
    assert loss.item() == pytest.approx(7.0)
    loss.backward()  # type: ignore[no-untyped-call]
    # d/dv = 2 (v - target) / N
    assert values.grad is not None and values.grad.tolist() == [[1.0, 0.0], [2.0, 3.0]]


def test_reinforce_loss_weighs_whole_utterances() -> None:
    logprobs = torch.tensor([-1.0, -2.0, -4.0], requires_grad=True)
    advantage = torch.tensor([2.0, 2.0, -1.0])  # an utterance of two tokens and one of a single token
    loss, _ = reinforce_loss(logprobs, advantage, utterances=2)
    # -1/2 [2 (-1 - 2) + (-1)(-4)] = -1/2 (-6 + 4) = 1
    assert loss.item() == pytest.approx(1.0)
    loss.backward()  # type: ignore[no-untyped-call]
    # -A/N for every token of the utterance
    assert logprobs.grad is not None and logprobs.grad.tolist() == [-1.0, -1.0, 0.5]


def test_reinforce_loss_refuses_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="shapes do not fit"):
        reinforce_loss(torch.zeros(3), torch.zeros(2), 1)


def test_cloning_loss_is_the_mean_over_tokens() -> None:
    loss, _ = cloning_loss(torch.tensor([-1.0, -3.0]))
    assert loss.item() == pytest.approx(2.0)
    assert cloning_loss(torch.tensor([-1.0, -3.0]), torch.zeros(2))[0].item() == 0  # weights too small for float32


def test_kl_penalty_pulls_by_the_log_ratio_and_reports_k3() -> None:
    logprobs = torch.tensor([-1.0, -2.0], requires_grad=True)
    reference = torch.tensor([-1.5, -2.0])
    loss, kl = kl_penalty(logprobs, reference, utterances=1)
    # ½ (0.5² + 0²) = 0.125;  k3: exp(-0.5) - 1 + 0.5 = 0.10653
    assert loss.item() == pytest.approx(0.125)
    assert kl == pytest.approx(math.exp(-0.5) - 0.5)
    loss.backward()  # type: ignore[no-untyped-call]
    assert logprobs.grad is not None and logprobs.grad.tolist() == [0.5, 0.0]


REWARDS = torch.tensor([1.0, 2.0, 4.0])
NEXT = torch.tensor([[10.0], [20.0], [40.0]])


def _returns(terminated: bool, trace: float) -> list[float]:
    found = lambda_returns(REWARDS, NEXT, [terminated], [3], discount=0.5, trace=trace)
    return [row[0] for row in found.tolist()]


def test_one_step_targets_bootstrap_unless_terminated() -> None:
    # r + γ V': 1 + 5, 2 + 10, and after the last turn 4 + 20 if we stopped it, 4 if the task ended
    assert _returns(False, 0.0) == [6.0, 12.0, 24.0]
    assert _returns(True, 0.0) == [6.0, 12.0, 4.0]


def test_monte_carlo_targets_sum_the_rewards() -> None:
    # 4;  2 + ½·4 = 4;  1 + ½·4 = 3
    assert _returns(True, 1.0) == [3.0, 4.0, 4.0]
    # truncated: 4 + ½·40 = 24;  2 + 12 = 14;  1 + 7 = 8
    assert _returns(False, 1.0) == [8.0, 14.0, 24.0]


def test_lambda_mixes_step_and_return() -> None:
    # terminated, λ = ½: G2 = 4;  G1 = 2 + ½(½·20 + ½·4) = 8;  G0 = 1 + ½(½·10 + ½·8) = 5.5
    assert _returns(True, 0.5) == [5.5, 8.0, 4.0]


def test_episodes_laid_end_to_end_do_not_leak() -> None:
    laid = lambda_returns(
        torch.cat([REWARDS, REWARDS[2:], REWARDS]), torch.cat([NEXT, NEXT[2:], NEXT]),
        [True, False, False], [3, 1, 3], discount=0.5, trace=1.0,
    )  # fmt: skip
    # of one turn, truncated: 4 + ½·40 = 24
    assert laid[:, 0].tolist() == [3.0, 4.0, 4.0, 24.0, 8.0, 14.0, 24.0]


def test_accumulated_gradient_is_the_mean_of_the_whole_batch() -> None:
    data = torch.tensor([[1.0], [2.0], [6.0]])

    def stepped(parts: list[slice]) -> torch.Tensor:
        torch.manual_seed(0)
        layer = torch.nn.Linear(1, 1)
        optimizer = Optimizer(layer, lr=0.1, clip=1e9)
        optimizer.step((layer(data[part]).pow(2).mean(), len(data[part]) / 3) for part in parts)
        assert layer.weight.grad is not None
        return layer.weight.grad.clone()

    assert torch.allclose(stepped([slice(0, 3)]), stepped([slice(0, 2), slice(2, 3)]))


def test_each_network_clips_its_own_gradient() -> None:
    layer = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        layer.weight.fill_(3.0)
    optimizer = Optimizer(layer, lr=0.1, clip=1.0)
    norm = optimizer.step([(layer(torch.ones(1, 1)).pow(2).sum(), 1.0)])
    assert norm == pytest.approx(6.0)  # d/dw w² = 2w
    assert layer.weight.grad is not None and layer.weight.grad.item() == pytest.approx(1.0, abs=1e-4)


def test_muon_moves_hidden_matrices_equally_far_in_every_direction() -> None:
    layer = torch.nn.Linear(4, 4)
    before, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    optimizer = Optimizer(layer, lr=0.1, clip=1e9, matrix_lr=0.01)
    # Gradient diag(1000, 10, ...): AdamW and SGD would follow its large direction; its polar factor is the identity.
    scale = torch.tensor([1000.0, 10.0, 10.0, 10.0])
    optimizer.step([((layer.weight * torch.diag(scale)).sum() + layer.bias.sum(), 1.0)])
    moved = torch.linalg.svdvals(layer.weight.detach() - before)
    assert moved.max() / moved.min() < 2  # five Newton-Schulz steps leave singular values within about 0.7 and 1.2
    assert torch.allclose(layer.bias.detach(), bias - 0.1, atol=1e-4)  # AdamW's first step is its learning rate


@pytest.mark.parametrize("shape", [(3, 3), (2, 5), (5, 2)])
def test_muons_iteration_moves_singular_values_and_nothing_else(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape, dtype=torch.float64)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    a, b, c = 3.4445, -4.7750, 2.0315
    values = values / values.norm()  # Frobenius
    for _ in range(5):
        values = a * values + b * values**3 + c * values**5
    found = orthogonal(matrix, (a, b, c), steps=5, eps=1e-7)
    assert found.dtype == torch.float32  # bfloat16 is slow on most processors, and would be off by 1e-2
    assert torch.allclose(found.double(), left @ torch.diag(values) @ right, atol=1e-5)


def test_muon_steps_as_torchs_does_but_for_its_rounding() -> None:
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.ones(4, 2)) for _ in range(2))
    kinds: list[tuple[torch.nn.Parameter, Any]] = [(ours, Muon), (theirs, torch.optim.Muon)]
    optimizers = [(weight, kind([weight], lr=0.1, weight_decay=0.5)) for weight, kind in kinds]
    for gradient in torch.randn(3, 4, 2):
        for weight, optimizer in optimizers:
            weight.grad = gradient.clone()
            optimizer.step()
    assert not torch.equal(ours, theirs) and torch.allclose(ours, theirs, atol=5e-3)


def test_muon_leaves_embeddings_and_output_layers_to_adamw() -> None:
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=16, hidden_size=8, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2,
            tie_word_embeddings=False,
        )
    )  # fmt: skip
    names = {id(p): name for name, p in model.named_parameters()}
    found = {names[id(p)].split(".")[-2] for p in hidden_matrices(model)}
    assert found == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def test_warm_up_takes_a_twentieth_and_decay_ends_near_zero() -> None:
    # 100 steps: 20 · 1/100, 20 · 5/100, then 1.05 · (1 - 50/100) and 1.05 · (1 - 99/100)
    assert [warmup_decay(step, 100) for step in (0, 4, 50, 99)] == pytest.approx([0.2, 1.0, 0.525, 0.0105])
    assert warmup_decay(0, 1) == 1.0


def test_a_schedule_scales_every_rate() -> None:
    optimizer = Optimizer(torch.nn.Linear(2, 2), lr=0.1, clip=1.0, matrix_lr=0.02)
    optimizer.scale_lr(0.1)
    optimizer.scale_lr(0.5)  # of what was given, not of the last factor
    assert [part.param_groups[0]["lr"] for part in optimizer.parts] == pytest.approx([0.05, 0.01])


def test_a_gradient_that_is_not_finite_stops_before_the_weights_are_lost() -> None:
    layer = torch.nn.Linear(1, 1)
    before = layer.weight.clone()
    with pytest.raises(FloatingPointError, match="learning rate"):
        Optimizer(layer, lr=0.1, clip=1.0).step([(layer(torch.tensor([[math.inf]])).sum(), 1.0)])
    assert torch.equal(layer.weight, before)


def test_polyak_moves_the_target_part_of_the_way() -> None:
    target, source = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    with torch.no_grad():
        target.weight.fill_(0.0)
        source.weight.fill_(10.0)
    polyak_update(target, source, 0.1)
    assert target.weight.item() == pytest.approx(1.0)
