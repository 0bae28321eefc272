"""Word and character errors of utterances, by the alignments of jiwer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jiwer
import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ErrorCounts:
    """Errors of N utterances, each field (N,); units are words or characters.

    Attributes:
        reference: units in the reference.
        insertions, deletions, substitutions: errors of the best alignment.
    """

    reference: Counts
    insertions: Counts
    deletions: Counts
    substitutions: Counts

    @property
    def errors(self) -> Counts:
        return self.insertions + self.deletions + self.substitutions

    @property
    def rate(self) -> float:
        """Errors divided by reference units; ``nan`` if the references are empty."""
        units = int(self.reference.sum())
        return float(self.errors.sum() / units) if units else float("nan")

    def select(self, rows: Sequence[int] | Counts) -> ErrorCounts:
        """The counts of some of the utterances."""
        index = np.asarray(rows, dtype=np.int64)
        return ErrorCounts(
            self.reference[index],
            self.insertions[index],
            self.deletions[index],
            self.substitutions[index],
        )


def word_errors(references: Sequence[str], hypotheses: Sequence[str]) -> ErrorCounts:
    """Count the word errors of each utterance; words are separated by spaces.

    Raises:
        ValueError: different numbers of references and hypotheses.
    """
    _same_length(references, hypotheses)
    if not references:
        return _no_utterances()
    return _count(jiwer.process_words(list(references), list(hypotheses)))


def character_errors(references: Sequence[str], hypotheses: Sequence[str]) -> ErrorCounts:
    """Count the character errors of each utterance, including spaces.

    Raises:
        ValueError: different numbers of references and hypotheses.
    """
    _same_length(references, hypotheses)
    if not references:
        return _no_utterances()
    return _count(jiwer.process_characters(list(references), list(hypotheses)))


def _same_length(references: Sequence[str], hypotheses: Sequence[str]) -> None:
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references but {len(hypotheses)} hypotheses")


def _no_utterances() -> ErrorCounts:
    empty = np.zeros(0, dtype=np.int64)
    return ErrorCounts(empty, empty, empty, empty)


def _count(output: jiwer.WordOutput | jiwer.CharacterOutput) -> ErrorCounts:
    table = np.zeros((len(output.references), 4), dtype=np.int64)
    column = {"insert": 1, "delete": 2, "substitute": 3}
    for row, (reference, chunks) in enumerate(
        zip(output.references, output.alignments, strict=True)
    ):
        table[row, 0] = len(reference)
        for chunk in chunks:
            if chunk.type != "equal":
                span = max(
                    chunk.ref_end_idx - chunk.ref_start_idx,
                    chunk.hyp_end_idx - chunk.hyp_start_idx,
                )
                table[row, column[chunk.type]] += span
    return ErrorCounts(table[:, 0], table[:, 1], table[:, 2], table[:, 3])
