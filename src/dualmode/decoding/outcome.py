"""Results of a search: hypotheses with their scores, and rejections."""

from __future__ import annotations

from dataclasses import dataclass

from dualmode.decoding.transcript import Token


@dataclass(frozen=True)
class Hypothesis:
    """A hypothesis of a search.

    Attributes:
        tokens: its tokens.
        score: log-probability by the transducer plus the scores of language parts; NaN if the
            search does not keep it.
        acoustic: the same without the scores of language parts.
    """

    tokens: tuple[Token, ...]
    score: float
    acoustic: float


@dataclass(frozen=True)
class Outcome:
    """The hypotheses of one utterance or segment, best first; empty if none is accepted.

    Attributes:
        margin: if decoding was confined to phrases, the log-probability of the best phrase minus
            that of the best symbols of all frames, divided by its number of tokens. 0 is a perfect
            fit; -inf means that no phrase was complete.
        rejected: whether the audio contains speech that is none of the phrases.
    """

    hypotheses: tuple[Hypothesis, ...]
    margin: float | None = None
    rejected: bool = False

    @property
    def tokens(self) -> tuple[Token, ...]:
        """The best hypothesis."""
        return self.hypotheses[0].tokens if self.hypotheses else ()
