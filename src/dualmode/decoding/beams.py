"""Beam searches that are used again, because they remember what they computed."""

from __future__ import annotations

from dualmode.decoding.beam import BeamSearch
from dualmode.decoding.foreseen import ForeseenPredictions
from dualmode.language.knowledge import Fusion
from dualmode.runtime import Scorer

BEAMS_KEPT = 4


class BeamSearches:
    """The latest beam searches of a recogniser; may be used by several threads."""

    def __init__(self, width: int, blank_penalty: float) -> None:
        self._width = width
        self._blank_penalty = blank_penalty
        self._foreseen: dict[int, ForeseenPredictions] = {}
        self._kept: tuple[BeamSearch, ...] = ()

    def get(self, scorer: Scorer, fusion: Fusion | None) -> BeamSearch:
        """The search over a scorer with this very fusion."""
        if id(scorer) not in self._foreseen:  # keeps the scorer, so that no other has its id
            self._foreseen[id(scorer)] = ForeseenPredictions(scorer)
        foreseen = self._foreseen[id(scorer)]
        for kept in self._kept:
            if kept.scorer is foreseen and kept.fusion is fusion:
                return kept
        search = BeamSearch(foreseen, self._width, self._blank_penalty, fusion)
        self._kept = (*self._kept[1 - BEAMS_KEPT :], search)
        return search

    def clear(self) -> None:
        """Forget all searches."""
        self._foreseen.clear()
        self._kept = ()
