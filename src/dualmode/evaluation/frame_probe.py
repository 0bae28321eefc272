"""A linear probe of an encoder: how well tokens can be classified from the frames of each layer.

Frames are labelled by forced alignment of the transcripts with the CTC head of a recogniser. For
each layer a linear classifier is fitted to some utterances and scored on others, and compared with
the same encoder with random weights (Alain & Bengio, arXiv 1610.01644).
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
from dualmode.features import Framing
from dualmode.model.backbone import Backbone
from dualmode.model.directory import LoadedModel, read_weights, unpack_state
from dualmode.model.subnet import Subnet, trained_subnets

_REACH_MS = 120  # by which a token's label extends into neighbouring blanks
_HELD_OUT = 5  # one utterance in five is scored and not used for fitting
_UNLABELLED = -1
_ROUNDS = 60  # iterations of L-BFGS
_DECAY = 1e-3

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Probe:
    """Accuracy on held-out frames.

    Attributes:
        layers: accuracy of each layer, first to last, by recogniser and weights, such as
            ("server", "trained").
        most_frequent: accuracy of always predicting the most frequent token.
        frames: number of frames for fitting, and for scoring.
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
    """Load the encoder of a model directory, and make the same encoder with random weights.

    Both use the feature statistics and masks of the directory, pre-trained or fine-tuned.

    Raises:
        ModelError: the directory cannot be read.
    """
    recipe, packed = read_weights(folder)
    torch.manual_seed(seed)
    random = Backbone(recipe.model, recipe.pruning)
    trained = Backbone(recipe.model, recipe.pruning)
    unpack_state(trained, {k: v for k, v in packed.items() if k.startswith("encoder.")})
    for target, source in zip(random.prunable(), trained.prunable(), strict=True):
        target.blocks.copy_(source.blocks)
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
    """Probe each layer of the trained recognisers, and of the same encoder with random weights.

    Args:
        folder: a model directory.
        cuts: transcribed utterances; they need not be in any training set.
        aligner: a recogniser whose CTC head aligns the transcripts.
        progress: called with the number of layers done and in total.

    Raises:
        DataError: too few utterances could be aligned.
        ModelError: ``folder`` cannot be read.
    """
    trained, random, recipe = load_encoder(folder)
    calm = aligner.recipe.data.model_copy(update={"workers": 0})
    of_aligner, framing = aligner.model.encoder.framing, trained.encoder.framing
    source = BatchSource(
        cuts, aligner.tokens, aligner.recipe.text, calm, of_aligner, seed=0, train=False
    )
    batches = [batch for batch, _ in source.batches()]
    labels = [_labels(aligner, batch, framing) for batch in batches]
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
    """Whether an utterance is scored; a function of its name, the same for all models."""
    return sum(name.encode()) % _HELD_OUT == 0


def _labels(aligner: LoadedModel, batch: Any, framing: Framing) -> list[Labels]:
    """Labels (T,) of each utterance: the token at or near each frame of ``framing``, else -1."""
    best, *_ = trained_subnets(aligner.recipe).values()
    frames, lengths = aligner.model(batch.features, batch.feature_lengths, best)
    log_probs = aligner.model.ctc_log_probs(frames).numpy()
    own = aligner.model.encoder.framing
    reach, counts = _REACH_MS // own.frame_ms, framing.frame_counts(batch.feature_lengths)
    rows = zip(log_probs, lengths.tolist(), batch.tokens, batch.token_lengths, strict=True)
    found = [
        spread(align(row[:length], tokens[:count].tolist()), reach)
        for row, length, tokens, count in rows
    ]
    pairs = zip(found, counts.tolist(), strict=True)
    return [reframed(labels, own, framing, count) for labels, count in pairs]


def reframed(labels: Labels, own: Framing, other: Framing, frames: int) -> Labels:
    """Labels of the frames of one framing for ``frames`` frames of another: each gets the label of
    the frame whose middle is nearest to its own."""
    if own == other or not len(labels):
        return labels
    middles = other.stride_mels * np.arange(1, frames + 1) - 1  # in mel frames
    nearest = np.rint((middles + 1) / own.stride_mels - 1).astype(np.int64)
    found: Labels = labels[nearest.clip(0, len(labels) - 1)]
    return found


def spread(path: Labels, reach: int) -> Labels:
    """Label blank frames with the nearest token within ``reach`` frames, or with -1."""
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
    """All labels for fitting, and all labels for scoring."""
    parts = []
    for scored in (False, True):
        chosen = [
            row
            for batch, held in zip(labels, held_out, strict=True)
            for row, is_held in zip(batch, held, strict=True)
            if is_held == scored
        ]
        joined = np.concatenate(chosen) if chosen else np.zeros(0, np.int64)
        parts.append(joined[joined != _UNLABELLED])
    if min(map(len, parts)) == 0:
        raise DataError("too few utterances to probe: give several dozen with transcripts")
    return parts


def _accuracy(
    frames: list[Tensor], labels: list[list[Labels]], held_out: list[npt.NDArray[np.bool_]]
) -> float:
    """Fit a linear classifier to the utterances that are not held out; score it on the others."""
    inputs: dict[bool, list[Tensor]] = {False: [], True: []}
    for batch, rows, held in zip(frames, labels, held_out, strict=True):
        for sequence, row, is_held in zip(batch, rows, held, strict=True):
            inputs[bool(is_held)].append(sequence[: len(row)][torch.from_numpy(row != _UNLABELLED)])
    learnt, scored = (torch.from_numpy(part) for part in _split(labels, held_out))
    x, y = torch.cat(inputs[False]).float(), torch.cat(inputs[True]).float()
    mean, deviation = x.mean(dim=0), x.std(dim=0).clamp_min(1e-6)
    weights = _fit((x - mean) / deviation, learnt)
    found = ((y - mean) / deviation) @ weights[:-1] + weights[-1]
    return float((found.argmax(dim=1) == scored).double().mean())


@torch.inference_mode(False)
def _fit(x: Tensor, classes: Tensor) -> Tensor:
    """Weights (D + 1, V) of multinomial logistic regression; the last row is the bias."""
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
