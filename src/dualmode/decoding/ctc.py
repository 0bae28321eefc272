"""Best-path decoding of the auxiliary CTC head, for the part of a run that only it trains in."""

from __future__ import annotations

from torch import Tensor

from dualmode.decoding.scorer import BLANK


def best_path(log_probs: Tensor, lengths: Tensor) -> list[list[int]]:
    """Tokens of the best symbols a frame, repeats merged and blanks dropped (Graves, 2006).

    Args:
        log_probs: (B, T, V), of which ``lengths`` (B,) frames are real.
    """
    found = []
    for symbols, length in zip(log_probs.argmax(-1).tolist(), lengths.tolist(), strict=True):
        real = symbols[:length]
        found.append(
            [s for s, before in zip(real, [BLANK, *real], strict=False) if s not in (BLANK, before)]
        )
    return found
