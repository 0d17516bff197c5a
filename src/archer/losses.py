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


def reinforce_loss(logprobs: Tensor, utterance: Tensor, advantage: Tensor) -> tuple[Tensor, Metrics]:
    """Token-level policy gradient whose only reward is the utterance's advantage (ArCHer section 3.4).

        L = -1/N Σ_n A[n] Σ_{t in n} log π(token_t)

    The sum over tokens makes Σ log π the log-probability of the whole utterance; the mean is over utterances.
    Shapes: logprobs [T], utterance [T] (index into N of each token), advantage [N]. Gradients flow into ``logprobs``.
    """
    spoken = _of_utterances(logprobs, utterance, advantage)
    loss = -(advantage.detach() * spoken).mean()
    return loss, {"loss": float(loss.detach()), "logprob": float(spoken.detach().mean())}


def clip_loss(
    logprobs: Tensor, sampled: Tensor, utterance: Tensor, advantage: Tensor, clip: float
) -> tuple[Tensor, Metrics]:
    """PPO's clipped objective, every token with its utterance's advantage (Schulman et al. 2017, eq. 7).

        L = -1/N Σ_n Σ_{t in n} min(ρ_t A[n], clip(ρ_t, 1 - ε, 1 + ε) A[n]),  ρ_t = exp(log π_t - sampled_t)

    Shapes: logprobs, sampled (log-probabilities of the policy that said it) and utterance [T], advantage [N].
    Gradients flow into ``logprobs``.
    """
    ratio = (logprobs - sampled.detach()).exp()
    worth = advantage.detach()[utterance]
    gain = torch.minimum(ratio * worth, ratio.clamp(1 - clip, 1 + clip) * worth)
    loss = -_of_utterances(gain, utterance, advantage).mean()
    return loss, {
        "loss": float(loss.detach()),
        "logprob": float(_of_utterances(logprobs.detach(), utterance, advantage).mean()),
        "clipped": float(((ratio.detach() - 1).abs() > clip).float().mean()),
    }


def weighted_cloning_loss(logprobs: Tensor, utterance: Tensor, weights: Tensor) -> tuple[Tensor, Metrics]:
    """Negative log-likelihood of whole utterances, each with a weight; no gradient flows through the weights.

        L = -1/N Σ_n w[n] Σ_{t in n} log π(token_t)

    Shapes: logprobs [T], utterance [T] (index into N of each token), weights [N]. Gradients flow into ``logprobs``.
    """
    loss, metrics = reinforce_loss(logprobs, utterance, weights)  # the same sum; only what stands for A differs
    return loss, {**metrics, "weight_mean": float(weights.mean())}


def _of_utterances(tokens: Tensor, utterance: Tensor, like: Tensor) -> Tensor:
    """What the tokens [T] of each utterance add up to, in the shape of ``like`` [N]."""
    if tokens.shape != utterance.shape or like.ndim != 1:
        raise ValueError(f"shapes do not fit: {tokens.shape} of tokens, utterance {utterance.shape}, {like.shape}")
    return torch.zeros_like(like).index_add_(0, utterance, tokens)


def cloning_loss(logprobs: Tensor) -> tuple[Tensor, Metrics]:
    """Negative log-likelihood per token of demonstrated utterances, stop tokens included. Shape: logprobs [T]."""
    loss = -logprobs.mean()
    return loss, {"loss": float(loss.detach())}


def kl_penalty(logprobs: Tensor, reference: Tensor, utterances: int) -> tuple[Tensor, float]:
    """Pull towards a reference policy from tokens that π sampled; the penalty, and KL(π ‖ reference) to log.

        L = 1/N Σ_t ½ (log π_t - log ref_t)²

    Its gradient, (log π - log ref) ∇log π, is that of KL(π ‖ reference) summed over an utterance's tokens (the "k2"
    estimator). What is logged is the never negative, unbiased "k3", exp(d) - 1 - d with d = log ref - log π, in nats
    per utterance (Schulman, "Approximating KL divergence"); as a loss, that one would pull only weakly on tokens that
    the reference would hardly ever say.
    Shapes: [T] both, over N utterances. Gradients flow into ``logprobs``.
    """
    difference = logprobs - reference.detach()
    loss = 0.5 * difference.pow(2).sum() / utterances
    gap = -difference.detach()
    return loss, float((gap.exp() - 1 - gap).sum() / utterances)
