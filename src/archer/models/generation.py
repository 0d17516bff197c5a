"""What a model's generation config says of how ``generate`` is to speak, and what of that does nothing."""

from __future__ import annotations

from typing import Any

SAMPLING = ("temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff")
"""What ``generate`` looks at only where it samples."""
BEAMS = ("early_stopping", "length_penalty")
"""Where it keeps several beams."""
OUTPUTS = ("output_attentions", "output_hidden_states", "output_scores", "output_logits")
"""Where it returns more than tokens."""


def drop_ignored(config: Any) -> None:
    """Take out of a generation config what ``generate`` ignores.

    Many published ones hold a temperature and a top-p but not that they are for sampling. They can be loaded, but once
    anything in them has been changed, transformers refuses to save them.
    """
    ignored: list[str] = []
    if not config.do_sample:
        ignored += SAMPLING
    if config.num_beams in (None, 1):
        ignored += BEAMS
    if not config.return_dict_in_generate:
        ignored += OUTPUTS
    if config.pad_token_id is not None and config.pad_token_id < 0:  # "none", as old models wrote it
        ignored.append("pad_token_id")
    for name in ignored:
        setattr(config, name, None)
