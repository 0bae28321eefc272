"""What a search found: hypotheses with their scores, and whether the best is an answer."""

from __future__ import annotations

from dataclasses import dataclass

from dualmode.decoding.transcript import Token


@dataclass(frozen=True)
class Hypothesis:
    """Tokens that may have been said.

    Attributes:
        score: logarithm of their probability by the transducer, what language parts added
            included; NaN where a search does not keep it.
        acoustic: the same without what language parts added.
    """

    tokens: tuple[Token, ...]
    score: float
    acoustic: float


@dataclass(frozen=True)
class Outcome:
    """The hypotheses of one utterance or segment, best first; none where none is accepted.

    Attributes:
        margin: where decoding was confined to phrases, how well the best of them fits: by how
            much it was less probable than the best symbols, summed over frames, in nats for each
            of its tokens, as a negative number. 0 is a perfect fit, -inf no complete phrase.
        rejected: whether something was said that is none of the phrases.
    """

    hypotheses: tuple[Hypothesis, ...]
    margin: float | None = None
    rejected: bool = False

    @property
    def tokens(self) -> tuple[Token, ...]:
        """The best hypothesis."""
        return self.hypotheses[0].tokens if self.hypotheses else ()
