"""The supernet: one set of weights that holds every recogniser."""

from __future__ import annotations

import math

from torch import Tensor, nn

from dualmode.config import ModelConfig, PruningConfig, Recipe
from dualmode.errors import SubnetError
from dualmode.model.encoder import Encoder, EncoderState, frame_count
from dualmode.model.layers import Choice
from dualmode.model.masks import PrunableLinear
from dualmode.model.subnet import SERVER, ChunkedContext, Subnet
from dualmode.model.transducer import (
    Joiner,
    Predictor,
    TransducerScorer,
    prunable_parts,
    transducer_mask,
)


class Supernet(nn.Module):
    """Encoder, predictor, joiner and auxiliary heads; a :class:`Subnet` says which part runs.

    Args:
        vocabulary: number of tokens V, blank included.
        model, pruning: sections of the recipe.
    """

    def __init__(self, vocabulary: int, model: ModelConfig, pruning: PruningConfig) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.pruning = pruning
        self.encoder = Encoder(model, pruning)
        self.predictor = Predictor(vocabulary, model, pruning)
        self.joiner = Joiner(vocabulary, model, pruning)
        self.simple_frames = nn.Linear(model.width, vocabulary)
        self.simple_predictions = nn.Linear(model.predictor_width, vocabulary)
        self.ctc = nn.Linear(model.width, vocabulary)

    @property
    def sparsities(self) -> tuple[float, ...]:
        """Target sparsities that have masks."""
        return self.pruning.sparsities

    def prunable(self) -> list[PrunableLinear]:
        """The linear maps that have masks, in a fixed order."""
        return prunable_parts(self.encoder, self.predictor, self.joiner, self.pruning)

    def choice(self, subnet: Subnet) -> Choice:
        """How layers see ``subnet``.

        Raises:
            SubnetError: there is no mask of that sparsity.
        """
        norm = int(subnet.streams)
        if subnet.sparsity == 0.0:
            return Choice(None, norm)
        for index, target in enumerate(self.sparsities):
            if math.isclose(target, subnet.sparsity, abs_tol=1e-6):
                return Choice(index, norm)
        held = ", ".join(f"{s:g}" for s in (0.0, *self.sparsities))
        raise SubnetError(
            f"the model holds no masks of sparsity {subnet.sparsity:g}; it was trained with {held}"
        )

    def latents(self, features: Tensor, feature_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Subsample mel frames (B, M, 80) to latents (B, T, D) and their lengths (B,).

        They are the same for all subnets, so a step of training computes them once.
        """
        return self.encoder.subsampling(features), frame_count(feature_lengths)

    def encode(self, latents: Tensor, frame_lengths: Tensor, subnet: Subnet) -> Tensor:
        """Encode latents (B, T, D) by ``subnet`` to frames (B, T, D), zero past the lengths."""
        output: Tensor = self.encoder(latents, frame_lengths, subnet.context, self.choice(subnet))
        return output

    def forward(
        self, features: Tensor, feature_lengths: Tensor, subnet: Subnet
    ) -> tuple[Tensor, Tensor]:
        """Frames (B, T, D) and their lengths (B,) of mel frames (B, M, 80), by ``subnet``."""
        latents, lengths = self.latents(features, feature_lengths)
        return self.encode(latents, lengths, subnet), lengths

    def recognize(
        self, features: Tensor, feature_lengths: Tensor, subnet: Subnet
    ) -> tuple[Tensor, Tensor]:
        """Like :meth:`forward`, with frames (B, T, J) projected for the scorer."""
        frames, lengths = self(features, feature_lengths, subnet)
        return self.project_frames(frames, subnet), lengths

    def project_frames(self, frames: Tensor, subnet: Subnet) -> Tensor:
        """Project frames (B, T, D) to the joiner's width (B, T, J)."""
        output: Tensor = self.joiner.from_frames(frames, self._transducer_mask(subnet))
        return output

    def project_predictions(self, predictions: Tensor, subnet: Subnet) -> Tensor:
        """Project predictions (B, U + 1, P) to the joiner's width (B, U + 1, J)."""
        output: Tensor = self.joiner.from_predictions(predictions, self._transducer_mask(subnet))
        return output

    def predict(self, targets: Tensor, subnet: Subnet) -> Tensor:
        """Predictions (B, U + 1, P) over targets (B, U)."""
        return self.predictor.over_targets(targets, self._transducer_mask(subnet))

    def join(self, frames: Tensor, predictions: Tensor, subnet: Subnet) -> Tensor:
        """Logits (..., V) of projected frames and predictions."""
        output: Tensor = self.joiner(frames, predictions, self._transducer_mask(subnet))
        return output

    def ctc_log_probs(self, frames: Tensor) -> Tensor:
        """Log-probabilities (B, T, V) of the auxiliary CTC head over frames (B, T, D)."""
        output: Tensor = self.ctc(frames).float().log_softmax(-1)
        return output

    def initial_state(self, batch: int, subnet: Subnet) -> EncoderState:
        """The state of ``batch`` streams that have heard nothing yet.

        Raises:
            SubnetError: ``subnet`` has full context, which cannot stream.
        """
        return self.encoder.initial_state(batch, _chunked(subnet).left)

    def stream(
        self, mels: Tensor, frame_counts: Tensor, state: EncoderState, subnet: Subnet
    ) -> tuple[Tensor, EncoderState]:
        """Advance streams by one or more chunks: see :meth:`Encoder.step`.

        Returns frames (B, N C, J) projected for the scorer, and the new state.
        """
        context = _chunked(subnet)
        frames, after = self.encoder.step(mels, frame_counts, context, self.choice(subnet), state)
        return self.project_frames(frames, subnet), after

    def scorer(self, subnet: Subnet, blank_penalty: float = 0.0) -> TransducerScorer:
        """What decoding with ``subnet`` searches over."""
        mask = self._transducer_mask(subnet)
        return TransducerScorer(self.predictor, self.joiner, mask, blank_penalty)

    def _transducer_mask(self, subnet: Subnet) -> int | None:
        return transducer_mask(self.pruning, self.choice(subnet).mask)


def _chunked(subnet: Subnet) -> ChunkedContext:
    if not isinstance(subnet.context, ChunkedContext):
        raise SubnetError("full context hears the whole utterance and cannot stream; use device")
    return subnet.context


def device_subnet(recipe: Recipe) -> Subnet:
    """The device recogniser of a recipe: its chunks, and 70 % sparsity or the nearest trained."""
    chunk = recipe.training.device
    context = ChunkedContext(chunk.chunk_frames, chunk.left_frames, chunk.lookahead_frames)
    sparsity = min(recipe.pruning.sparsities, key=lambda s: abs(s - 0.7))
    return Subnet(context, sparsity)


def named_subnet(name: str, recipe: Recipe) -> Subnet:
    """``server`` or ``device`` of a recipe.

    Raises:
        SubnetError: any other name.
    """
    if name == "server":
        return SERVER
    if name == "device":
        return device_subnet(recipe)
    raise SubnetError(f"no subnet {name!r}: choose server or device")
