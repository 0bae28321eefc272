"""Combined results: means over seeds, intervals by speaker, paired differences."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

from benchmarks.claim.rows import MAIN, Row
from benchmarks.claim.stages import KINDS, Comparison
from dualmode.evaluation.wer import ErrorCounts, bootstrap_interval, compare

# Comparisons of the claim: a row, one of its recognisers, and the rows to compare it with.
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
Name = tuple[str, str]  # names of a row and of one of its recognisers
_RESAMPLES = 10_000
_CHANGED = ("C-split-", "E-split-")  # rows that differ from these in one setting


@dataclass(frozen=True)
class Scored:
    """One recogniser of one row: counts for each seed, over the same utterances.

    Attributes:
        speakers, corpora: speaker and corpus of each utterance.
        size: parameters and bytes of the first seed.
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
        """Utterances of all seeds concatenated, and their groups: a speaker, or an utterance if
        speakers are unknown, is the same group in all seeds."""
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


def collect(comparison: Comparison) -> dict[str, Any]:
    """All results so far, as JSON values; rows without results are omitted.

    Raises:
        CheckpointError: a training has another length than this comparison.
    """
    scored: dict[Name, Scored] = {}
    table: dict[str, Any] = {}
    for row in comparison.profile.rows:
        recognisers = read_scores(comparison, row)
        if not recognisers:
            continue
        scored |= {(row.name, name): found for name, found in recognisers.items()}
        done = next(iter(recognisers.values())).seeds
        costs = [comparison.cost(row.stage, seed) for seed in done]
        table[row.name] = {
            "title": row.title,
            "seeds": list(done),
            **{name: found.summary() for name, found in recognisers.items()},
            "cost": {key: float(np.mean([cost[key] for cost in costs])) for key in costs[0]},
            "step_seconds": [comparison.step_seconds(row.stage, seed) for seed in done],
            "curves": {str(seed): comparison.curve(row.stage, seed) for seed in done},
        }
    pairs = _pairs(scored)
    return {
        "profile": comparison.profile.name,
        "scale": comparison.scale,
        "seeds": sorted({seed for found in scored.values() for seed in found.seeds}),
        "rows": table,
        "comparisons": [_compared(scored, *pair) for pair in pairs if _shared(scored, pair)],
        "cost_to_match": cost_to_match(table),
        "sparsities": _by_sparsity(scored),
    }


def read_scores(comparison: Comparison, row: Row) -> dict[str, Scored]:
    """Scores of the recognisers of a row, over the finished seeds."""
    found: dict[str, Scored] = {}
    for seed in comparison.seeds_of(row):
        read = json.loads(comparison.scores_path(row, seed).read_text(encoding="utf-8"))
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


def _pairs(scored: dict[Name, Scored]) -> list[tuple[Name, Name]]:
    """The comparisons of the claim, of ablations with E, of changes of C-split and E-split with
    these, and of the other views."""
    names = {row.name for row in MAIN}
    pairs = [((ours, who), (other, who)) for ours, who, others in AGAINST for other in others]
    alone = _alone(scored)
    for row, who in scored:
        if row.endswith("-corners"):
            whole = row.removesuffix("-corners")
            pairs += [((row, who), (whole, other)) for other in ("server", "device")]
        elif row == "E-sparsities" and who != "server":
            pairs += [((row, who), (alone.get(scored[row, who].size["sparsity"], ""), "device"))]
        elif row.startswith(_CHANGED):
            pairs += [((row, who), (row[: len("C-split")], who))]
        elif row not in names and (row, who) not in {(name, "device") for name in alone.values()}:
            pairs += [((row, who), ("E", who))]
    return pairs


def _alone(scored: dict[Name, Scored]) -> dict[float, str]:
    """Rows with a single sparsity (E, E-0.5 and so on), by sparsity."""
    return {
        found.size["sparsity"]: row
        for (row, who), found in scored.items()
        if who == "device" and (row == "E" or row.removeprefix("E-").replace(".", "").isdigit())
    }


def _shared(scored: dict[Name, Scored], names: Iterable[Name]) -> list[int]:
    """Seeds that all of ``names`` have; empty if one of them has no results."""
    each = [set(scored[name].seeds) if name in scored else set() for name in names]
    return sorted(set.intersection(*each)) if each else []


def _compared(scored: dict[Name, Scored], ours: Name, theirs: Name) -> dict[str, Any]:
    """The difference on the same utterances, with an interval by speakers for these trained models,
    and Student's interval over seeds for models trained with other seeds."""
    seeds = _shared(scored, (ours, theirs))
    first, second = scored[ours].of(seeds), scored[theirs].of(seeds)
    (a, groups), (b, _) = first.pooled(), second.pooled()
    found = compare(a, b, groups, resamples=_RESAMPLES)
    differences = [x.rate - y.rate for x, y in zip(first.counts, second.counts, strict=True)]
    return {
        "first": ours[0],
        "second": theirs[0],
        "recogniser": ours[1],
        "second_recogniser": theirs[1],
        "difference": found.difference,
        "relative": found.difference / b.rate if b.rate else float("nan"),
        "ci95": list(found.ci95),
        "p_value": found.p_value,
        "seeds": differences,
        "ci95_over_seeds": _over_seeds(differences),
    }


def _over_seeds(differences: Sequence[float]) -> list[float] | None:
    """95 % interval by Student's t; None for a single seed, which has no variation."""
    if len(differences) < 2:
        return None
    error = float(np.std(differences, ddof=1)) / len(differences) ** 0.5
    reach = float(student.ppf(0.975, len(differences) - 1)) * error
    middle = float(np.mean(differences))
    return [middle - reach, middle + reach]


def _by_sparsity(scored: dict[Name, Scored]) -> dict[str, list[tuple[float, dict[str, Any]]]]:
    """Sparsity and WER of device, of one supernet for all sparsities and of one for each, over
    common seeds; empty without such rows."""
    several = {
        found.size["sparsity"]: name
        for name, found in scored.items()
        if name[0] == "E-sparsities" and name[1] != "server"
    }
    alone = {sparsity: (row, "device") for sparsity, row in _alone(scored).items()}
    seeds = _shared(scored, [*several.values(), *alone.values()])
    if not several or not seeds:
        return {}
    return {
        label: [(s, _rate(scored[names[s]].of(seeds))) for s in sorted(names)]
        for label, names in (("one supernet for all", several), ("a supernet each", alone))
    }


def cost_to_match(table: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    """Cost at which E first equals the best rates of B1 and B2 on the development set, relative to
    the total cost of B1 and B2: ``reached`` by seed, None if it never does.

    Only settled rates count, so no value is below ``earliest``. The learning rate is not low yet
    before the end of a training, so this overestimates the cost.
    """
    if not {"B1", "B2", "E"} <= set(table):
        return {}
    apart = table["B1"]["cost"]["flops"] + table["B2"]["cost"]["flops"]
    found: dict[str, dict[str, float | None]] = {}
    for seed, curve in table["E"]["curves"].items():
        settled = [point for point in curve if point["settled"]]
        try:
            goals = {
                name: min(p[name] for p in table[row]["curves"][seed] if p["settled"])
                for name, row in (("server", "B1"), ("device", "B2"))
            }
            earliest = min(point["flops"] for point in settled)
        except (KeyError, ValueError):  # a seed that is missing or incomplete
            continue
        reached = [p["flops"] for p in settled if all(p[n] <= goal for n, goal in goals.items())]
        found[seed] = {
            "reached": min(reached) / apart if reached else None,
            "earliest": earliest / apart,
        }
    return found
