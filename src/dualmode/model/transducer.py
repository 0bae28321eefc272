"""Predictor and joiner of the transducer, and the scorer that decoding searches over."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualmode.config import ModelConfig, PruningConfig
from dualmode.model.layers import LinearMaker
from dualmode.model.masks import PrunableLinear
from dualmode.text import BLANK


class Predictor(nn.Module):
    """Stateless predictor (Ghodsi et al., 2020): embeds and mixes the last few tokens."""

    def __init__(self, vocabulary: int, model: ModelConfig, pruning: PruningConfig) -> None:
        super().__init__()
        self.context_tokens = model.context_tokens
        self.embedding = nn.Embedding(vocabulary, model.predictor_width)
        mixed = model.context_tokens * model.predictor_width
        self.mix = LinearMaker(pruning)(mixed, model.predictor_width)

    def forward(self, context: Tensor, mask: int | None) -> Tensor:
        """Map the last tokens (..., context_tokens) to predictions (..., P)."""
        embedded = self.embedding(context).flatten(-2)
        return F.relu(self.mix(embedded, mask))

    def over_targets(self, targets: Tensor, mask: int | None) -> Tensor:
        """Map targets (B, U) to predictions (B, U + 1, P), before each token and after the last."""
        padded = F.pad(targets, (self.context_tokens, 0), value=BLANK)
        output: Tensor = self(padded.unfold(1, self.context_tokens, 1), mask)
        return output


class Joiner(nn.Module):
    """Additive joiner with tanh; frames and predictions are each projected to J and summed."""

    def __init__(self, vocabulary: int, model: ModelConfig, pruning: PruningConfig) -> None:
        super().__init__()
        make = LinearMaker(pruning)
        self.from_frames = make(model.width, model.joiner_width)
        self.from_predictions = make(model.predictor_width, model.joiner_width)
        self.out = make(model.joiner_width, vocabulary)

    def forward(self, frames: Tensor, predictions: Tensor, mask: int | None) -> Tensor:
        """Logits (..., V) of projected frames and predictions (..., J), broadcast together."""
        output: Tensor = self.out(torch.tanh(frames + predictions), mask)
        return output


def transducer_mask(pruning: PruningConfig, mask: int | None) -> int | None:
    """The mask that predictor and joiner use: None unless their weights are pruned as well."""
    return mask if pruning.scope == "all" else None


@dataclass(frozen=True)
class TransducerScorer:
    """Scores next tokens for decoding: the predictor and joiner of one subnet.

    Frames and predictions are both of the joiner's width J.
    """

    predictor: Predictor
    joiner: Joiner
    mask: int | None

    @property
    def context_tokens(self) -> int:
        return self.predictor.context_tokens

    def predict(self, context: Tensor) -> Tensor:
        """Predictions (B, J) after the last tokens (B, context_tokens); blanks before the first."""
        output: Tensor = self.joiner.from_predictions(self.predictor(context, self.mask), self.mask)
        return output

    def score(self, frames: Tensor, predictions: Tensor) -> Tensor:
        """Log-probabilities (B, V) of frames (B, J) and predictions (B, J)."""
        logits: Tensor = self.joiner(frames, predictions, self.mask).float()
        return logits.log_softmax(-1)


def prunable_parts(
    encoder: nn.Module, predictor: Predictor, joiner: Joiner, pruning: PruningConfig
) -> list[PrunableLinear]:
    """The prunable linear maps, in a fixed order."""
    parts: list[nn.Module] = [encoder]
    if pruning.scope == "all":
        parts += [predictor, joiner]
    return [m for part in parts for m in part.modules() if isinstance(m, PrunableLinear)]
