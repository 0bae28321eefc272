"""What both objectives of pre-training validate: metrics of masked frames, and the use of codes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from dualmode.errors import DataError
from dualmode.losses.contrastive import perplexities

_FEWEST_CODES = 0.1  # share of a codebook below which its use is too small


def mean_metrics(
    sums: Tensor, names: Sequence[str], terms: Sequence[str], codebooks: int, entries: int
) -> tuple[dict[str, float], Tensor, list[float]]:
    """Means over the masked frames of a development set.

    Args:
        sums: (1 + len(names) len(terms) + codebooks entries,) number of masked frames; sums of each
            term of each subnet; number of frames of each codeword.

    Returns:
        metrics to log, the share of the frames (codebooks, entries) of each codeword, and the
        perplexity of each codebook.

    Raises:
        DataError: no frame could be masked.
    """
    keys = [f"dev/{name}/{term}" for name in names for term in terms]
    frames, *rest = sums[: 1 + len(keys)].tolist()
    if frames == 0:
        raise DataError("the utterances of data.dev are too short to mask any frames")
    values = {key: total / frames for key, total in zip(keys, rest, strict=True)}
    shares = sums[1 + len(keys) :].view(codebooks, entries) / frames
    used = (shares > 0).double().mean(dim=1).tolist()
    in_use = perplexities(shares).tolist()
    for number, (perplexity, share) in enumerate(zip(in_use, used, strict=True), start=1):
        values[f"dev/codes/perplexity_{number}"] = perplexity
        values[f"dev/codes/used_{number}"] = share
    return values, shares, in_use


def right_shares(values: dict[str, float], names: Sequence[str]) -> str:
    """The shares of right predictions, for the line of a validation."""
    return "  ".join(f"{name} {values[f'dev/{name}/accuracy']:.1%}" for name in names)


def little_used(in_use: Sequence[float], entries: int) -> list[tuple[int, float]]:
    """Number and perplexity of the codebooks that use too few of their codewords."""
    fewest = max(2.0, _FEWEST_CODES * entries)
    numbered = enumerate(in_use, start=1)
    return [(number, perplexity) for number, perplexity in numbered if perplexity < fewest]
