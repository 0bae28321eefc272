"""A linear probe: how much of the text lies open in an encoder's frames, layer by layer.

Frames are labelled by forced alignment of the transcripts with the CTC head of a recogniser; then
a linear classifier of each layer's frames is fitted on some utterances and scored on others. What
pre-training learnt shows against the same encoder with random weights (Alain & Bengio, arXiv
1610.01644).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lhotse import CutSet
from torch import Tensor

from dualmode.config import Recipe
from dualmode.data.batches import BatchSource
from dualmode.decoding.ctc import align
from dualmode.errors import DataError
from dualmode.model.backbone import Backbone
from dualmode.model.directory import LoadedModel, read_weights, unpack_state
from dualmode.model.subnet import Subnet, trained_subnets

_REACH = 3  # frames (120 ms) that a token's label spreads over the blanks beside it
_HELD_OUT = 5  # one utterance of so many is scored, not learnt from
_UNLABELLED = -1
_ROUNDS = 60  # of L-BFGS
_DECAY = 1e-3

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Probe:
    """Accuracy on held-out frames.

    Attributes:
        layers: by recogniser and weights, such as ("server", "trained"): the accuracy of each
            layer, first to last.
        most_frequent: what always naming the most frequent token would reach.
        frames: that were learnt from, and scored.
    """

    layers: dict[tuple[str, str], list[float]]
    most_frequent: float
    frames: tuple[int, int]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        named = {f"{subnet}/{weights}": rates for (subnet, weights), rates in self.layers.items()}
        learnt, scored = self.frames
        return {
            "layers": named,
            "most_frequent": self.most_frequent,
            "frames": {"learnt": learnt, "scored": scored},
        }


def load_encoder(folder: Path, seed: int = 0) -> tuple[Backbone, Backbone, Recipe]:
    """The encoder of a model directory, pre-trained or fine-tuned, and the same with random
    weights; both normalise features alike.

    Raises:
        ModelError: the directory cannot be read.
    """
    recipe, packed = read_weights(folder)
    torch.manual_seed(seed)
    random = Backbone(recipe.model, recipe.pruning)
    trained = Backbone(recipe.model, recipe.pruning)
    unpack_state(trained, {k: v for k, v in packed.items() if k.startswith("encoder.")})
    for ours, theirs in zip(random.prunable(), trained.prunable(), strict=True):
        ours.blocks.copy_(theirs.blocks)
    random.encoder.subsampling.mean.copy_(trained.encoder.subsampling.mean)
    random.encoder.subsampling.deviation.copy_(trained.encoder.subsampling.deviation)
    return trained.eval(), random.eval(), recipe


@torch.inference_mode()
def probe(
    folder: Path,
    cuts: CutSet,
    aligner: LoadedModel,
    progress: Callable[[float, float], None] = lambda done, total: None,
) -> Probe:
    """Probe every layer of the recognisers that were trained, and of the same with random weights.

    Args:
        cuts: transcribed speech that neither pre-training nor the aligner needs to have heard.
        aligner: says which token is said when.
        progress: told what is done, and of how much.

    Raises:
        DataError: too little of the speech could be aligned.
        ModelError: ``folder`` cannot be read.
    """
    trained, random, recipe = load_encoder(folder)
    calm = aligner.recipe.data.model_copy(update={"workers": 0})
    source = BatchSource(cuts, aligner.tokens, aligner.recipe.text, calm, seed=0, train=False)
    batches = [batch for batch, _ in source.batches()]
    labels = [_labels(aligner, batch) for batch in batches]
    held_out = [np.asarray([_held(name) for name in batch.ids]) for batch in batches]
    subnets = trained_subnets(recipe)
    total, done = 2 * len(subnets) * len(trained.encoder.layers), 0
    layers: dict[tuple[str, str], list[float]] = {}
    for name, subnet in subnets.items():
        for kind, model in (("trained", trained), ("random", random)):
            rates = []
            for frames in _frames(model, batches, subnet):
                rates.append(_accuracy(frames, labels, held_out))
                done += 1
                progress(done, total)
            layers[name, kind] = rates
    learnt, scored = _split(labels, held_out)
    most = np.bincount(learnt).argmax()
    return Probe(layers, float(np.mean(scored == most)), (len(learnt), len(scored)))


def _held(name: str) -> bool:
    """Whether an utterance is scored; by its name, so that every model has the same ones."""
    return sum(name.encode()) % _HELD_OUT == 0


def _labels(aligner: LoadedModel, batch: Any) -> list[Labels]:
    """(T,) tokens of each utterance's frames, where one is said or was a moment ago."""
    best, *_ = trained_subnets(aligner.recipe).values()
    frames, lengths = aligner.model(batch.features, batch.feature_lengths, best)
    log_probs = aligner.model.ctc_log_probs(frames).numpy()
    rows = zip(log_probs, lengths.tolist(), batch.tokens, batch.token_lengths, strict=True)
    return [
        spread(align(row[:length], tokens[:count].tolist())) for row, length, tokens, count in rows
    ]


def spread(path: Labels, reach: int = _REACH) -> Labels:
    """Give frames of blank the label of the nearest token within ``reach`` frames, else -1."""
    said = np.flatnonzero(path)
    if not len(said):
        return np.full(len(path), _UNLABELLED)
    distance = np.abs(np.arange(len(path))[:, None] - said)
    nearest = distance.argmin(axis=1)
    near = distance.min(axis=1) <= reach
    return np.where(near, path[said[nearest]], _UNLABELLED)


def _frames(model: Backbone, batches: list[Any], subnet: Subnet) -> Iterable[list[Tensor]]:
    """For each layer, the frames (B, T, D) of every batch."""
    kept: list[list[Tensor]] = [[] for _ in model.encoder.layers]

    def keep(layer: int, count: int) -> Callable[..., None]:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            windows, chunk = output[0], inputs[1].chunk
            kept[layer].append(windows[:, :, :chunk].flatten(1, 2)[:, :count].clone())

        return hook

    for batch in batches:
        latents, lengths = model.latents(batch.features, batch.feature_lengths)
        hooks = [
            layer.register_forward_hook(keep(number, latents.shape[1]))
            for number, layer in enumerate(model.encoder.layers)
        ]
        model.encode(latents, lengths, subnet)
        for hook in hooks:
            hook.remove()
    return kept


def _split(labels: list[list[Labels]], held_out: list[npt.NDArray[np.bool_]]) -> list[Labels]:
    """All labels that are learnt from, and all that are scored."""
    parts = []
    for scored in (False, True):
        chosen = [
            row
            for batch, held in zip(labels, held_out, strict=True)
            for row, mine in zip(batch, held, strict=True)
            if mine == scored
        ]
        joined = np.concatenate(chosen) if chosen else np.zeros(0, np.int64)
        parts.append(joined[joined != _UNLABELLED])
    if min(map(len, parts)) == 0:
        raise DataError("too few utterances to probe: give some dozens, with transcripts")
    return parts


def _accuracy(
    frames: list[Tensor], labels: list[list[Labels]], held_out: list[npt.NDArray[np.bool_]]
) -> float:
    """Fit a linear classifier on the utterances that are not held out; score it on the others."""
    inputs: dict[bool, list[Tensor]] = {False: [], True: []}
    for batch, rows, held in zip(frames, labels, held_out, strict=True):
        for sequence, row, mine in zip(batch, rows, held, strict=True):
            inputs[bool(mine)].append(sequence[: len(row)][torch.from_numpy(row != _UNLABELLED)])
    learnt, scored = (torch.from_numpy(part) for part in _split(labels, held_out))
    x, y = torch.cat(inputs[False]).float(), torch.cat(inputs[True]).float()
    mean, deviation = x.mean(dim=0), x.std(dim=0).clamp_min(1e-6)
    weights = _fit((x - mean) / deviation, learnt)
    found = ((y - mean) / deviation) @ weights[:-1] + weights[-1]
    return float((found.argmax(dim=1) == scored).double().mean())


@torch.inference_mode(False)
def _fit(x: Tensor, classes: Tensor) -> Tensor:
    """Weights (D + 1, V) of multinomial logistic regression, the last row being the bias."""
    x, classes = x.clone(), classes.clone()
    weights = torch.zeros(x.shape[1] + 1, int(classes.max()) + 1, requires_grad=True)
    optimizer: Any = torch.optim.LBFGS([weights], max_iter=_ROUNDS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(x @ weights[:-1] + weights[-1], classes)
        loss = loss + _DECAY * weights[:-1].square().sum()
        torch.autograd.backward(loss)
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    return weights.detach()
