"""Losses of both levels: pure functions of tensors that return the loss and what to log about it.

Letters: N turns, K siblings per state, T tokens, H critic heads.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

Metrics = Mapping[str, float]


def critic_loss(values: Tensor, targets: Tensor, expectile: float = 0.5) -> tuple[Tensor, Metrics]:
    """Squared error of every head against its own target, averaged over turns and summed over heads.

        L = Σ_h 1/N Σ_n 2 |τ - 1[target < value]| (values[n, h] - targets[n, h])²

    With the expectile τ = 0.5 the weight is 1 and values become the mean of their targets: Q (targets r + γ V̄) and V
    (targets Q̄ of a sampled utterance) of ArCHer, section 3.3. With τ nearer to 1 they come nearer to the greatest
    target that occurs (Kostrikov et al. 2021, eq. 5, times 2).
    Shapes: [N, H] both. Gradients flow into ``values`` only.
    """
    error = values - targets.detach()
    weight = 2 * torch.where(error.detach() > 0, 1 - expectile, expectile)
    return (weight * error.pow(2)).mean(dim=0).sum(), {
        "loss": float(error.detach().pow(2).mean()),
        "mean": float(values.detach().mean()),
    }


def reinforce_loss(logprobs: Tensor, advantage: Tensor, utterances: int) -> tuple[Tensor, Metrics]:
    """Token-level policy gradient; in ArCHer all tokens of an utterance have its advantage (section 3.4).

        L = -1/N Σ_n Σ_{t in n} A_t log π(token_t)

    The sum over tokens makes Σ log π the log-probability of the whole utterance; the mean is over utterances.
    Shapes: logprobs and advantage [T], of N utterances. Gradients flow into ``logprobs`` only.
    """
    _check(logprobs, advantage)
    loss = -(advantage.detach() * logprobs).sum() / utterances
    return loss, {"loss": float(loss.detach()), "logprob": float(logprobs.detach().sum() / utterances)}


def clip_loss(
    logprobs: Tensor, sampled: Tensor, advantage: Tensor, utterances: int, clip: float
) -> tuple[Tensor, Metrics]:
    """PPO's clipped objective, token by token (Schulman et al. 2017, eq. 7).

        L = -1/N Σ_n Σ_{t in n} min(ρ_t A_t, clip(ρ_t, 1 - ε, 1 + ε) A_t),  ρ_t = exp(log π_t - sampled_t)

    Shapes: logprobs, sampled (log-probabilities of the policy that said it) and advantage [T], of N utterances.
    Gradients flow into ``logprobs`` only.
    """
    _check(logprobs, advantage)
    ratio = (logprobs - sampled.detach()).exp()
    worth = advantage.detach()
    gain = torch.minimum(ratio * worth, ratio.clamp(1 - clip, 1 + clip) * worth)
    loss = -gain.sum() / utterances
    return loss, {
        "loss": float(loss.detach()),
        "logprob": float(logprobs.detach().sum() / utterances),
        "clipped": float(((ratio.detach() - 1).abs() > clip).float().mean()),
    }


def weighted_cloning_loss(logprobs: Tensor, weights: Tensor, utterances: int) -> tuple[Tensor, Metrics]:
    """Negative log-likelihood of whole utterances, each token with its utterance's weight.

        L = -1/N Σ_n Σ_{t in n} w_t log π(token_t)

    Shapes: logprobs and weights [T], of N utterances. Gradients flow into ``logprobs`` only.
    """
    loss, metrics = reinforce_loss(logprobs, weights, utterances)  # the same sum; only what stands for A differs
    return loss, {**metrics, "weight_mean": float(weights.mean())}


def advantage_weights(advantage: Tensor, beta: float, cap: float) -> Tensor:
    """Weights min(exp(β A), cap) of advantage-weighted regression (Peng et al. 2019), shape as the advantages."""
    return (beta * advantage).exp().clamp(max=cap)


def _check(logprobs: Tensor, advantage: Tensor) -> None:
    if logprobs.ndim != 1 or logprobs.shape != advantage.shape:
        raise ValueError(f"shapes do not fit: logprobs {tuple(logprobs.shape)}, advantage {tuple(advantage.shape)}")


def cloning_loss(logprobs: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Metrics]:
    """Negative log-likelihood per token of demonstrated utterances, stop tokens included; their weighted mean.

        L = -Σ_t w_t log π(token_t) / Σ_t w_t

    Shapes: logprobs and weights [T]; without weights all count alike. Gradients flow into ``logprobs`` only.
    """
    if weights is None:
        loss = -logprobs.mean()
    else:  # all of a batch's weights may be 0 in float32: then it teaches nothing
        loss = -(weights * logprobs).sum() / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)
    return loss, {"loss": float(loss.detach())}


def kl_penalty(logprobs: Tensor, reference: Tensor, utterances: int) -> tuple[Tensor, float]:
    """Pull towards a reference policy from tokens that π sampled; the penalty, and KL(π ‖ reference) to log.

        L = 1/N Σ_t ½ (log π_t - log ref_t)²

    Its gradient, (log π - log ref) ∇log π, is that of each token's KL(π ‖ reference) at the states that were sampled,
    summed over an utterance (the "k2" estimator); how earlier tokens lead to these states is left out of it. What is
    logged is the never negative, unbiased "k3", exp(d) - 1 - d with d = log ref - log π, in nats per utterance
    (Schulman, "Approximating KL divergence"); as a loss, that one would pull only weakly on tokens that the reference
    would hardly ever say.
    Shapes: [T] both, over N utterances. Gradients flow into ``logprobs``.
    """
    difference = logprobs - reference.detach()
    loss = 0.5 * difference.pow(2).sum() / utterances
    gap = -difference.detach()
    return loss, float((gap.exp() - 1 - gap).sum() / utterances)
