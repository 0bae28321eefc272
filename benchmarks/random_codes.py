"""How many codes of a random quantiser are in use, by the normalisation of its mel frames.

    python -m benchmarks.random_codes CUTS... [--entries 256] [--utterances 60]

Mel frames are normalised by the statistics of all utterances, or of each utterance; and then each
stack of four by itself, or not. The last row is what dualmode does. Each column has the values of
three seeds: perplexity, share of the codewords that occur, share of frames with the most frequent
code, and share of frames with the code of the frame before.
"""

from __future__ import annotations

import argparse

import torch
from lhotse import CutSet
from torch import Tensor
from torch.nn import functional as F

from dualmode.config import DataConfig, RandomQuantizerConfig, TextConfig
from dualmode.data.batches import BatchSource
from dualmode.data.manifests import read_cuts
from dualmode.features import Framing
from dualmode.losses.contrastive import perplexities
from dualmode.model.random_quantizer import RandomQuantizer

SEEDS = (1, 2, 3)
FRAMING = Framing(40)


def read_mels(paths: list[str], utterances: int) -> list[Tensor]:
    """Mel frames (M, 80) of the first utterances of each CutSet."""
    cuts = CutSet.from_cuts([cut for path in paths for cut in list(read_cuts([path]))[:utterances]])
    data = DataConfig(workers=0, batch_seconds=60)
    source = BatchSource(cuts, None, TextConfig(), data, FRAMING, seed=0, train=False)
    return [
        batch.features[row, :length]
        for batch, _ in source.batches()
        for row, length in enumerate(batch.feature_lengths.tolist())
    ]


def stacks(mels: Tensor, count: int) -> Tensor:
    """The middle ``count`` (T, count * 80) of the mel frames that each frame reads."""
    first = (FRAMING.reach_mels - count) // 2
    windows = mels.unfold(0, FRAMING.reach_mels, FRAMING.stride_mels)
    windows = windows[..., first : first + count]
    return windows.transpose(1, 2).flatten(1)


def measure(inputs: list[Tensor], quantizer: RandomQuantizer) -> tuple[float, float, float, float]:
    """Perplexity, share in use, share of the most frequent code, share of repeated codes."""
    entries = quantizer.codewords.shape[1]
    codes = [
        (F.normalize(x @ quantizer.projections[0], dim=-1) @ quantizer.codewords[0].T).argmax(-1)
        for x in inputs
    ]
    shares = torch.bincount(torch.cat(codes), minlength=entries) / sum(map(len, codes))
    repeated = torch.cat([row[1:] == row[:-1] for row in codes]).float().mean()
    used = (shares > 0).float().mean()
    perplexity = perplexities(shares[None])[0]
    return float(perplexity), float(used), float(shares.max()), float(repeated)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("cuts", nargs="+")
    parser.add_argument("--entries", type=int, default=256)
    parser.add_argument("--utterances", type=int, default=60, help="of each CutSet")
    given = parser.parse_args()
    mels = read_mels(given.cuts, given.utterances)
    config = RandomQuantizerConfig(entries=given.entries)
    everything = torch.cat(mels)
    mean, deviation = everything.mean(dim=0), everything.std(dim=0)
    by_all = [(row - mean) / deviation for row in mels]
    by_utterance = [(row - row.mean(dim=0)) / row.std(dim=0).clamp_min(1e-3) for row in mels]
    print(f"{sum(len(stacks(row, 4)) for row in mels)} frames, {given.entries} codewords")
    print("| normalised by | and each stack | perplexity | in use | most frequent | repeated |")
    print("|---|---|---|---|---|---|")
    for name, rows in (("all utterances", by_all), ("each utterance", by_utterance)):
        for each_stack in (False, True):
            inputs = [stacks(row, config.stacked_mels) for row in rows]
            if each_stack:
                inputs = [F.layer_norm(x, x.shape[-1:]) for x in inputs]
            found = [measure(inputs, RandomQuantizer(config, FRAMING, seed)) for seed in SEEDS]
            columns = [", ".join(f"{one[0]:.0f}" for one in found)]
            columns += [", ".join(f"{one[at]:.0%}" for one in found) for at in (1, 2, 3)]
            print(f"| {name} | {'yes' if each_stack else 'no'} | {' | '.join(columns)} |")


if __name__ == "__main__":
    main()
