"""REINFORCE with a learned value of every token as its baseline: the paper's variant for long utterances (section 3.4).

    L = - 1/N Σ_n Σ_l ( A_n - b(s, a^{<l}) ) log π(a^l | s, a^{<l}),    b(s, a^{<l}) <- A_n

b is a network of its own (``models/token_baseline.py``), fitted by squared error to the advantage of the whole
utterance. What that is worth is then credited to the tokens that decided it: where b already knows, a token has none.
With b = 0 it is REINFORCE. The original describes it but released neither network nor setting.
"""

from __future__ import annotations

from torch import Tensor

from archer.algorithms.low.spoken import Spoken
from archer.config import ActorConfig
from archer.losses import Metrics, reinforce_loss


def loss(spoken: Spoken, config: ActorConfig) -> tuple[Tensor, Metrics]:
    """Log-probabilities weighted by what each token adds."""
    return reinforce_loss(spoken.logprobs, spoken.trust * (spoken.advantage - spoken.baseline), spoken.utterances)
