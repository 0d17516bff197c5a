"""Losses of both levels: pure functions of tensors that return the loss and what to log about it.

Letters: N turns, K siblings per state, T tokens, H critic heads.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

Metrics = Mapping[str, float]


def critic_loss(values: Tensor, targets: Tensor) -> tuple[Tensor, Metrics]:
    """Squared error of every head against its own target, averaged over turns and summed over heads.

        L = Σ_h 1/N Σ_n (values[n, h] - targets[n, h])²

    Serves Q (targets r + γ V̄) and V (targets Q̄ of a sampled utterance) alike: ArCHer section 3.3.
    Shapes: [N, H] both. Gradients flow into ``values`` only.
    """
    error = values - targets.detach()
    return error.pow(2).mean(dim=0).sum(), {
        "loss": float(error.detach().pow(2).mean()),
        "mean": float(values.detach().mean()),
    }


def reinforce_loss(logprobs: Tensor, utterance: Tensor, advantage: Tensor) -> tuple[Tensor, Metrics]:
    """Token-level policy gradient whose only reward is the utterance's advantage (ArCHer section 3.4).

        L = -1/N Σ_n A[n] Σ_{t in n} log π(token_t)

    The sum over tokens makes Σ log π the log-probability of the whole utterance; the mean is over utterances.
    Shapes: logprobs [T], utterance [T] (index into N of each token), advantage [N]. Gradients flow into ``logprobs``.
    """
    if logprobs.shape != utterance.shape or advantage.ndim != 1:
        raise ValueError(f"shapes do not fit: logprobs {logprobs.shape}, utterance {utterance.shape}")
    spoken = torch.zeros_like(advantage).index_add_(0, utterance, logprobs)
    loss = -(advantage.detach() * spoken).mean()
    return loss, {
        "loss": float(loss.detach()),
        "logprob": float(spoken.detach().mean()),
        "advantage_mean": float(advantage.mean()),
        "advantage_std": float(advantage.std()) if len(advantage) > 1 else 0.0,
    }


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
