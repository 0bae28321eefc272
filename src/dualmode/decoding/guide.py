"""What is known of the language, hypothesis by hypothesis, while a beam search runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dualmode.decoding.search import Scores
from dualmode.language.knowledge import Fusion
from dualmode.runtime import Floats, Ids, Scorer
from dualmode.text import BLANK

Flags = npt.NDArray[np.bool_]


class Guided(NamedTuple):
    """Of K hypotheses of B utterances, P language parts.

    Attributes:
        states: (B, K, P) of the parts.
        added: (B, K, V) what they add to the score of every next token.
        gained: (B, K) what they have added to the hypothesis so far.
        complete: (B, K, V) whether every next token makes a text that may end, blank standing for
            the text as it is; (B, K, 0) if any text may end.
        regret: (B, K) if decoding is confined, by how much the best symbols of all frames were
            more probable than those of the hypothesis, in nats.
        heard: (B, K) if decoding is confined, the latest frame whose best symbol is a token, in
            the list or not; -1 before the first.
    """

    states: Ids
    added: Floats
    gained: Scores
    complete: Flags
    regret: Scores
    heard: Ids

    def of(self, rows: slice) -> Guided:
        """Of some utterances, in memory of their own."""
        return Guided(
            self.states[rows].copy(),
            self.added[rows].copy(),
            self.gained[rows].copy(),
            self.complete[rows].copy(),
            self.regret[rows].copy(),
            self.heard[rows].copy(),
        )

    def waited(self, heard: Scores, run: Ids, frames: Ids) -> Guided:
        """After the first ``run`` (B,) frames of a block, in which nothing but blank was chosen.

        Args:
            heard: (B, K, F, V) log-probabilities.
            frames: (B,) number of the block's first frame.
        """
        best, symbol = heard.max(axis=3), heard.argmax(axis=3)
        inside = (np.arange(heard.shape[2]) < run[:, None])[:, None]
        regret = self.regret + ((best - heard[..., BLANK]) * inside).sum(axis=2)
        number = np.arange(heard.shape[2]) + frames[:, None, None]
        latest = np.where((symbol != BLANK) & inside, number, -1).max(axis=2)
        return self._replace(regret=regret, heard=np.maximum(self.heard, latest))

    def chose(self, heard: Scores, origin: Ids, token: Ids, frames: Ids, alive: Flags) -> Guided:
        """After a frame in which hypotheses ``origin`` (B, K) went on with ``token``.

        Args:
            heard: (B, K, V) log-probabilities of the frame, before they were reordered.
            frames: (B,) its number.
            alive: (B,) whether the utterance has it.
        """
        rows = np.arange(len(origin))[:, None]
        lost = heard.max(axis=2)[rows, origin] - heard[rows, origin, token]
        spoke = (heard.argmax(axis=2)[rows, origin] != BLANK) & alive[:, None]
        return self._replace(
            regret=self.regret + np.where(alive[:, None], lost, 0),
            heard=np.where(spoke, frames[:, None], self.heard),
        )

    def reordered(self, origin: Ids) -> Guided:
        """Copies for the hypotheses ``origin`` (B, K)."""
        rows = np.arange(len(origin))[:, None]
        return Guided(
            self.states[rows, origin],
            self.added[rows, origin],
            self.gained[rows, origin],
            self.complete[rows, origin],
            self.regret[rows, origin],
            self.heard[rows, origin],
        )


@dataclass(frozen=True)
class Guide:
    """Keeps :class:`Guided` up to date as hypotheses grow."""

    fusion: Fusion
    scorer: Scorer

    def start(self, predictions: Floats) -> Guided:
        """Before the first token; ``predictions`` (B, K, J) of the predictor."""
        batch, width = predictions.shape[:2]
        states = np.broadcast_to(self.fusion.start(), (batch * width, len(self.fusion.parts)))
        added, complete = self._ahead(states, predictions.reshape(batch * width, -1))
        return Guided(
            states.reshape(batch, width, -1).copy(),
            added.reshape(batch, width, -1),
            np.zeros((batch, width)),
            complete.reshape(batch, width, -1),
            np.zeros((batch, width)),
            np.full((batch, width), -1),
        )

    def extend(self, guided: Guided, predictions: Floats, origin: Ids, token: Ids) -> Guided:
        """After a frame: (B, K) which hypothesis each extends, and by what.

        Args:
            predictions: (B, K, J) of the predictor, for the hypotheses as they are now.
        """
        grown = token != BLANK
        if not grown.any() and (origin == np.arange(origin.shape[1])).all():
            return guided
        rows = np.arange(len(origin))[:, None]
        reward = guided.added[rows, origin, token]
        states, added, gained, complete, regret, heard = guided.reordered(origin)
        gained += np.where(grown, reward, 0)
        if grown.any():
            symbols = token[grown]
            after = self.fusion.expand(states[grown]).states
            states[grown] = after[np.arange(len(symbols)), symbols]
            added[grown], complete[grown] = self._ahead(states[grown], predictions[grown])
        return Guided(states, added, gained, complete, regret, heard)

    def finish(self, scores: Scores, guided: Guided) -> tuple[Scores, Guided]:
        """Scores (B, K) and :class:`Guided` after the end of every text."""
        batch, width = scores.shape
        final = self.fusion.final(guided.states.reshape(batch * width, -1)).reshape(batch, width)
        return scores + final, guided._replace(gained=guided.gained + final)

    def _ahead(self, states: Ids, predictions: Floats) -> tuple[Floats, Flags]:
        """(N, V) what every token adds to the histories ``states`` (N, P), and whether the text
        may end after it."""
        after, added = self.fusion.expand(states)
        if self.fusion.prior_weight:
            # The transducer's own language model: what it expects without audio, blank apart
            # (internal language model estimation: Meng et al., arXiv 2011.01991).
            prior = self.scorer.score(np.zeros_like(predictions), predictions)[:, 1:]
            prior = prior - np.logaddexp.reduce(prior, axis=1, keepdims=True)
            added[:, 1:] -= np.float32(self.fusion.prior_weight) * prior
        if not self.fusion.confined:
            return added, np.zeros((len(states), 0), dtype=bool)
        return added, self.fusion.accepts(after)
