"""The supernet: one set of weights that holds every recogniser."""

from __future__ import annotations

from torch import Tensor, nn

from dualmode.config import ModelConfig, PruningConfig, Recipe
from dualmode.errors import SubnetError
from dualmode.model.backbone import Backbone
from dualmode.model.encoder import EncoderState
from dualmode.model.masks import PrunableLinear
from dualmode.model.subnet import SERVER, ChunkedContext, Subnet
from dualmode.model.transducer import (
    Joiner,
    Predictor,
    TransducerScorer,
    prunable_parts,
    transducer_mask,
)


class Supernet(Backbone):
    """Encoder, predictor, joiner and auxiliary heads; a :class:`Subnet` says which part runs.

    Args:
        vocabulary: number of tokens V, blank included.
        model, pruning: sections of the recipe.
    """

    def __init__(self, vocabulary: int, model: ModelConfig, pruning: PruningConfig) -> None:
        super().__init__(model, pruning)
        self.vocabulary = vocabulary
        self.predictor = Predictor(vocabulary, model, pruning)
        self.joiner = Joiner(vocabulary, model, pruning)
        self.simple_frames = nn.Linear(model.width, vocabulary)
        self.simple_predictions = nn.Linear(model.predictor_width, vocabulary)
        self.ctc = nn.Linear(model.width, vocabulary)

    def prunable(self) -> list[PrunableLinear]:
        """The linear maps that have masks, in a fixed order."""
        return prunable_parts(self.encoder, self.predictor, self.joiner, self.pruning)

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
        frames, after = self.encoder.step(
            mels, frame_counts, context, self.active_weights(subnet), state
        )
        return self.project_frames(frames, subnet), after

    def scorer(self, subnet: Subnet, blank_penalty: float = 0.0) -> TransducerScorer:
        """What decoding with ``subnet`` searches over."""
        mask = self._transducer_mask(subnet)
        return TransducerScorer(self.predictor, self.joiner, mask, blank_penalty)

    def _transducer_mask(self, subnet: Subnet) -> int | None:
        return transducer_mask(self.pruning, self.active_weights(subnet).mask)


def _chunked(subnet: Subnet) -> ChunkedContext:
    if not isinstance(subnet.context, ChunkedContext):
        raise SubnetError("full context hears the whole utterance and cannot stream; use device")
    return subnet.context


def device_subnet(recipe: Recipe) -> Subnet:
    """The device recogniser of a recipe: its context and its sparsity."""
    device = recipe.training.device_subnet
    context = ChunkedContext(device.chunk_frames, device.left_frames, device.lookahead_frames)
    return Subnet(context, recipe.device_sparsity)


def named_subnet(name: str, recipe: Recipe) -> Subnet:
    """``server`` or ``device`` of a recipe.

    Raises:
        SubnetError: any other name, or a recogniser that the recipe did not train.
    """
    if name in {"server", "device"} and name not in recipe.training.subnets:
        raise SubnetError(
            f"this model holds no {name}: it was trained as {recipe.training.subnets[0]} alone"
        )
    if name == "server":
        return SERVER
    if name == "device":
        return device_subnet(recipe)
    raise SubnetError(f"no subnet {name!r}: choose server or device")


def trained_subnets(recipe: Recipe) -> dict[str, Subnet]:
    """The recognisers that a recipe trains in every step, by name; the first teaches."""
    return {name: named_subnet(name, recipe) for name in recipe.training.subnets}
