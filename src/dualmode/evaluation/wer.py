"""Word and character errors, with confidence intervals.

Alignments are computed by jiwer. Intervals are percentile bootstraps (Bisani and Ney, "Bootstrap
estimates for confidence intervals in ASR performance evaluation", ICASSP 2004): utterances, or
speakers with all their utterances, are drawn with replacement, and the rate is computed again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import jiwer
import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]

RESAMPLES = 10_000
_DRAWS_AT_ONCE = 4_000_000  # draws held in memory together: 32 MB of indices


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


@dataclass(frozen=True)
class Comparison:
    """Two systems on the same utterances; rates are fractions.

    Attributes:
        difference: rate of the first minus rate of the second.
        ci95: its 95 % interval.
        p_value: two-sided; probability of a difference at least as large if there were none.
    """

    difference: float
    ci95: tuple[float, float]
    p_value: float


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


def bootstrap_interval(
    counts: ErrorCounts,
    groups: Sequence[str] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % interval of the error rate, as fractions.

    Args:
        counts: errors of N utterances.
        groups: N names (speakers) whose utterances are drawn together; None draws utterances.
            Speakers differ more than sentences do, so use speakers to estimate the error rate
            on other speakers.
        resamples: number of bootstrap samples.
        seed: random seed; the same seed gives the same interval.
    """
    if int(counts.reference.sum()) == 0:
        return (float("nan"), float("nan"))
    sums = _sum_by_group(np.stack([counts.errors, counts.reference], axis=1), groups)
    rates = np.concatenate([s[:, 0] / s[:, 1] for s in _resampled(sums, resamples, seed)])
    return _percentiles(rates)


def compare(
    first: ErrorCounts,
    second: ErrorCounts,
    groups: Sequence[str] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Paired bootstrap between two systems on the same N utterances.

    The p-value recentres the drawn differences on zero (Efron and Tibshirani, "An Introduction
    to the Bootstrap", chapter 16).

    Raises:
        ValueError: the references differ: the systems were not scored on the same utterances.
    """
    if not np.array_equal(first.reference, second.reference):
        raise ValueError("the two systems were not scored on the same references")
    if int(first.reference.sum()) == 0:
        return Comparison(float("nan"), (float("nan"), float("nan")), float("nan"))
    table = np.stack([first.errors - second.errors, first.reference], axis=1)
    sums = _sum_by_group(table, groups)
    drawn = np.concatenate([s[:, 0] / s[:, 1] for s in _resampled(sums, resamples, seed)])
    difference = first.rate - second.rate
    as_far = np.count_nonzero(np.abs(drawn - difference) >= abs(difference))
    return Comparison(difference, _percentiles(drawn), (int(as_far) + 1) / (resamples + 1))


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


def _sum_by_group(table: Counts, groups: Sequence[str] | None) -> Counts:
    """(N, 2) -> (G, 2): one row for each unit that the bootstrap draws."""
    if groups is None:
        return table
    if len(groups) != len(table):
        raise ValueError(f"{len(table)} utterances but {len(groups)} groups")
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.zeros((len(names), 2), dtype=np.int64)
    np.add.at(sums, index, table)
    return sums


def _resampled(sums: Counts, resamples: int, seed: int) -> Iterator[npt.NDArray[np.float64]]:
    """Sums (samples, 2) of bootstrap samples, in pieces that fit in memory.

    A sample whose references are all empty has no rate; its reference counts as one unit.
    """
    generator = np.random.default_rng(seed)
    piece = max(1, _DRAWS_AT_ONCE // len(sums))
    for start in range(0, resamples, piece):
        size = (min(piece, resamples - start), len(sums))
        drawn = sums[generator.integers(0, len(sums), size=size)].sum(axis=1).astype(np.float64)
        drawn[:, 1] = np.maximum(drawn[:, 1], 1.0)
        yield drawn


def _percentiles(rates: npt.NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(rates, [2.5, 97.5])
    return float(low), float(high)
