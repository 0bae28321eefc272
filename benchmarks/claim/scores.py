"""Errors of one recogniser over seeds, and its rates with intervals."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.claim.rows import Row
from benchmarks.claim.stages import KINDS, Comparison
from dualmode.errors import DataError
from dualmode.evaluation.significance import bootstrap_interval
from dualmode.evaluation.wer import ErrorCounts

Name = tuple[str, str]  # names of a row and of one of its recognisers


@dataclass(frozen=True)
class Utterances:
    """The utterances on which all rows are scored.

    Attributes:
        digest: identifies the test set, texts included.
        words: number of words in each reference.
    """

    digest: str
    ids: tuple[str, ...]
    speakers: tuple[str, ...]
    corpora: tuple[str, ...]
    words: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values: lists of equal length, in the order of all lists of errors."""
        return {
            "id": list(self.ids),
            "speaker": list(self.speakers),
            "corpus": list(self.corpora),
            "words": list(self.words),
        }


@dataclass(frozen=True)
class Scored:
    """One recogniser of one row: counts for each seed, over the same utterances.

    Attributes:
        size: parameters, sparsity and bytes of the first seed.
    """

    test: Utterances
    seeds: tuple[int, ...]
    counts: tuple[ErrorCounts, ...]
    size: dict[str, Any]

    def of(self, seeds: Sequence[int]) -> Scored:
        """The same for some of the seeds."""
        kept = [at for at, seed in enumerate(self.seeds) if seed in seeds]
        return replace(
            self,
            seeds=tuple(self.seeds[at] for at in kept),
            counts=tuple(self.counts[at] for at in kept),
        )

    def pooled(self) -> tuple[ErrorCounts, list[str], list[str]]:
        """Utterances of all seeds concatenated, their groups and their corpora: a speaker, or an
        utterance if speakers are unknown, is the same group in all seeds."""
        columns = ("reference", *KINDS)
        joined = [np.concatenate([getattr(c, name) for c in self.counts]) for name in columns]
        groups = self.test.speakers if all(self.test.speakers) else self.test.ids
        times = len(self.counts)
        return ErrorCounts(*joined), list(groups) * times, list(self.test.corpora) * times

    def rate(self) -> dict[str, Any]:
        """Mean over seeds, every seed, and the interval by speakers of the pooled rate."""
        rates = [counts.rate for counts in self.counts]
        return {
            "mean": float(np.mean(rates)),
            "seeds": rates,
            "ci95": list(bootstrap_interval(*self.pooled())),
        }

    def summary(self) -> dict[str, Any]:
        """Rates of all utterances and of each corpus, sizes, and all errors by seed."""
        return {
            "wer": self.rate(),
            "corpora": {n: self._corpus(n).rate() for n in sorted(set(self.test.corpora))},
            "size": self.size,
            "errors": {
                str(seed): {kind: getattr(counts, kind).tolist() for kind in KINDS}
                for seed, counts in zip(self.seeds, self.counts, strict=True)
            },
        }

    def _corpus(self, name: str) -> Scored:
        rows = [at for at, corpus in enumerate(self.test.corpora) if corpus == name]
        test = replace(
            self.test,
            ids=tuple(self.test.ids[at] for at in rows),
            speakers=tuple(self.test.speakers[at] for at in rows),
            corpora=(name,) * len(rows),
            words=tuple(self.test.words[at] for at in rows),
        )
        counts = tuple(counts.select(rows) for counts in self.counts)
        return replace(self, test=test, counts=counts)


def read_scores(comparison: Comparison, row: Row) -> dict[str, Scored]:
    """Scores of the recognisers of a row, over the scored seeds.

    Raises:
        DataError: seeds were scored on different test sets.
    """
    found: dict[str, Scored] = {}
    for seed in comparison.seeds_of(row):
        read = json.loads(comparison.scores_path(row, seed).read_text(encoding="utf-8"))
        columns = (tuple(read["utterances"][k]) for k in ("id", "speaker", "corpus", "words"))
        test = Utterances(read["test"], *columns)
        words = np.asarray(test.words, dtype=np.int64)
        for name, errors in read["errors"].items():
            counts = ErrorCounts(words, *(np.asarray(errors[k], dtype=np.int64) for k in KINDS))
            before = found.get(name) or Scored(test, (), (), read["size"][name])
            one_set([before.test, test])
            found[name] = replace(
                before, seeds=(*before.seeds, seed), counts=(*before.counts, counts)
            )
    return found


def one_set(tests: Sequence[Utterances]) -> Utterances:
    """The test set that all of at least one are.

    Raises:
        DataError: they differ.
    """
    if len(set(tests)) > 1:
        raise DataError("rows were scored on different test sets; run again with --score-only")
    return tests[0]
