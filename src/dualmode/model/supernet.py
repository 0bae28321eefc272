"""The supernet: one set of weights that contains every recogniser."""

from __future__ import annotations

from torch import Tensor, nn

from dualmode.config import ModelConfig, PruningConfig
from dualmode.model.backbone import Backbone
from dualmode.model.encoder import EncoderState
from dualmode.model.masks import PrunableLinear
from dualmode.model.subnet import Subnet, chunked_context
from dualmode.model.transducer import (
    Joiner,
    Predictor,
    TransducerScorer,
    prunable_parts,
    transducer_mask,
)


class Supernet(Backbone):
    """Encoder, predictor, joiner and auxiliary heads; a ``Subnet`` selects the part that runs.

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
        """The initial state of ``batch`` streams.

        Raises:
            SubnetError: ``subnet`` has full context, which cannot stream.
        """
        return self.encoder.initial_state(batch, chunked_context(subnet).left)

    def stream(
        self, mels: Tensor, frame_counts: Tensor, state: EncoderState, subnet: Subnet
    ) -> tuple[Tensor, EncoderState]:
        """Advance streams by one or more chunks: see :meth:`Encoder.step`.

        Returns frames (B, N C, J) projected for the scorer, and the new state.
        """
        context = chunked_context(subnet)
        frames, after = self.encoder.step(
            mels, frame_counts, context, self.active_weights(subnet), state
        )
        return self.project_frames(frames, subnet), after

    def scorer(self, subnet: Subnet) -> TransducerScorer:
        """The scorer for decoding with ``subnet``."""
        return TransducerScorer(self.predictor, self.joiner, self._transducer_mask(subnet))

    def _transducer_mask(self, subnet: Subnet) -> int | None:
        return transducer_mask(self.pruning, self.active_weights(subnet).mask)
