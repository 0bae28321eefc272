"""What all trainings together show: means over seeds, intervals by speaker, paired differences."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.claim.rows import MAIN, Row
from benchmarks.claim.stages import KINDS, Comparison
from dualmode.evaluation.wer import ErrorCounts, bootstrap_interval, compare

# What the claim is about: a row, a recogniser of it, and the rows that it is held against.
AGAINST = (
    ("E", "server", ("A1", "B1", "C", "D")),
    ("E", "device", ("A2", "B2", "C", "D")),
    ("C", "server", ("A1",)),
    ("C", "device", ("A2",)),
    ("D", "server", ("B1",)),
    ("D", "device", ("B2",)),
    ("E-three-quarters", "server", ("B1",)),
    ("E-three-quarters", "device", ("B2",)),
)
_RESAMPLES = 10_000


@dataclass(frozen=True)
class Scored:
    """One recogniser of one row: counts for each seed, over the same utterances.

    Attributes:
        speakers, corpora: of each utterance.
        size: parameters and bytes, from the first seed.
    """

    seeds: tuple[int, ...]
    counts: tuple[ErrorCounts, ...]
    speakers: tuple[str, ...]
    corpora: tuple[str, ...]
    size: dict[str, Any]

    def of(self, seeds: Sequence[int]) -> Scored:
        """The same for some of the seeds."""
        kept = [at for at, seed in enumerate(self.seeds) if seed in seeds]
        counts = tuple(self.counts[at] for at in kept)
        return Scored(
            tuple(self.seeds[at] for at in kept), counts, self.speakers, self.corpora, self.size
        )

    def pooled(self) -> tuple[ErrorCounts, list[str]]:
        """All seeds' utterances one after the other, and whose they are: a speaker is the same in
        all of them, and where speakers are not known an utterance is."""
        columns = ("reference", *KINDS)
        joined = [np.concatenate([getattr(c, name) for c in self.counts]) for name in columns]
        known = all(self.speakers)
        groups = self.speakers if known else [str(at) for at in range(len(self.speakers))]
        return ErrorCounts(*joined), list(groups) * len(self.counts)

    def summary(self) -> dict[str, Any]:
        """Mean over seeds, every seed, and the interval by speakers of the pooled rate."""
        return {
            "wer": _rate(self),
            "corpora": {name: _rate(self._corpus(name)) for name in sorted(set(self.corpora))},
            "size": self.size,
            "errors": {
                str(seed): counts.errors.tolist()
                for seed, counts in zip(self.seeds, self.counts, strict=True)
            },
        }

    def _corpus(self, name: str) -> Scored:
        rows = [at for at, corpus in enumerate(self.corpora) if corpus == name]
        return Scored(
            self.seeds,
            tuple(counts.select(rows) for counts in self.counts),
            tuple(self.speakers[at] for at in rows),
            tuple(self.corpora[at] for at in rows),
            self.size,
        )


def collect(comparison: Comparison, rows: Sequence[Row], seeds: Sequence[int]) -> dict[str, Any]:
    """Everything that is done so far, ready for JSON; rows of which nothing is done are absent."""
    scored = {row.name: read_scores(comparison, row, seeds) for row in rows}
    table: dict[str, Any] = {}
    for row in rows:
        recognisers = scored[row.name]
        if not recognisers:
            continue
        done = next(iter(recognisers.values())).seeds
        costs = [comparison.cost(row.stage, seed) for seed in done]
        table[row.name] = {
            "title": row.title,
            **{name: found.summary() for name, found in recognisers.items()},
            "cost": {key: float(np.mean([cost[key] for cost in costs])) for key in costs[0]},
            "curves": {str(seed): comparison.curve(row.stage, seed) for seed in done},
        }
    return {
        "profile": comparison.profile.name,
        "scale": comparison.scale,
        "seeds": list(seeds),
        "rows": table,
        "comparisons": _comparisons(scored),
        "cost_to_match": cost_to_match(table),
    }


def read_scores(comparison: Comparison, row: Row, seeds: Sequence[int]) -> dict[str, Scored]:
    """The recognisers of a row, over those seeds that are done."""
    found: dict[str, Scored] = {}
    for seed in seeds:
        path = comparison.scores_path(row, seed)
        if not path.is_file():
            continue
        read = json.loads(path.read_text())
        utterances = read["utterances"]
        words = np.asarray(utterances["words"], dtype=np.int64)
        for name, errors in read["errors"].items():
            counts = ErrorCounts(words, *(np.asarray(errors[k], dtype=np.int64) for k in KINDS))
            before = found.get(name)
            found[name] = Scored(
                (*(before.seeds if before else ()), seed),
                (*(before.counts if before else ()), counts),
                tuple(utterances["speaker"]),
                tuple(utterances["corpus"]),
                before.size if before else read["size"][name],
            )
    return found


def _rate(found: Scored) -> dict[str, Any]:
    pooled, groups = found.pooled()
    rates = [counts.rate for counts in found.counts]
    return {
        "mean": float(np.mean(rates)),
        "seeds": rates,
        "ci95": list(bootstrap_interval(pooled, groups, resamples=_RESAMPLES)),
    }


def _comparisons(scored: dict[str, dict[str, Scored]]) -> list[dict[str, Any]]:
    """What the claim is about, and every ablation against E."""
    main = {row.name for row in MAIN}
    pairs = [(ours, other, recogniser) for ours, recogniser, others in AGAINST for other in others]
    pairs += [
        (name, "E", recogniser)
        for name in scored
        if name not in main
        for recogniser in ("server", "device")
    ]
    return [
        found
        for first, second, recogniser in pairs
        if (found := _compared(scored, first, second, recogniser)) is not None
    ]


def _compared(
    scored: dict[str, dict[str, Scored]], first: str, second: str, recogniser: str
) -> dict[str, Any] | None:
    ours = scored.get(first, {}).get(recogniser)
    theirs = scored.get(second, {}).get(recogniser)
    if ours is None or theirs is None:
        return None
    seeds = sorted(set(ours.seeds) & set(theirs.seeds))
    if not seeds:
        return None
    (a, groups), (b, _) = ours.of(seeds).pooled(), theirs.of(seeds).pooled()
    found = compare(a, b, groups, resamples=_RESAMPLES)
    return {
        "first": first,
        "second": second,
        "recogniser": recogniser,
        "difference": found.difference,
        "relative": found.difference / b.rate if b.rate else float("nan"),
        "ci95": list(found.ci95),
        "p_value": found.p_value,
        "seeds": [
            x.rate - y.rate
            for x, y in zip(ours.of(seeds).counts, theirs.of(seeds).counts, strict=True)
        ],
    }


def cost_to_match(table: dict[str, Any]) -> dict[str, float | None]:
    """FLOPs at which E, on the development set, is first as good as B1 and B2 ever were, over all
    that those two cost; by seed, None where it never is.

    Only what is settled counts. Before the end of a training its rates are those of a learning
    rate that has not come down, so this overstates the cost.
    """
    if not {"B1", "B2", "E"} <= set(table):
        return {}
    apart = table["B1"]["cost"]["flops"] + table["B2"]["cost"]["flops"]
    found: dict[str, float | None] = {}
    for seed, curve in table["E"]["curves"].items():
        try:
            goals = {
                name: min(p[name] for p in table[row]["curves"][seed] if p["settled"])
                for name, row in (("server", "B1"), ("device", "B2"))
            }
        except (KeyError, ValueError):  # a seed that B1 or B2 has not done, or not to its end
            continue
        reached = [
            p["flops"]
            for p in curve
            if p["settled"] and all(p[n] <= goal for n, goal in goals.items())
        ]
        found[seed] = min(reached) / apart if reached else None
    return found
