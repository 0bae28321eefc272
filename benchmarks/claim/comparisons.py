"""Paired differences between rows: for these models, and over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy.stats import t as student

from benchmarks.claim.rows import MAIN, SPLIT
from benchmarks.claim.scores import Name, Scored
from dualmode.evaluation.significance import compare, holm

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
    ("C-split", "server", ("A1-half", "A1", "C")),
    ("C-split", "device", ("A2-half", "F", "A2", "C")),
    ("E-split", "server", ("B1-half", "B1", "E", "C-split")),
    ("E-split", "device", ("B2-half", "F-pretrained", "F", "B2", "E", "C-split")),
)
_CHANGED = ("C-split-", "E-split-")  # rows that differ from these in one setting
# Rows that train one recogniser, and the row that trains the other one: the work of a supernet is
# compared with that of both.
APART = {
    "A1": "A2",
    "A2": "A1",
    "B1": "B2",
    "B2": "B1",
    "A1-half": "A2-half",
    "A2-half": "A1-half",
    "B1-half": "B2-half",
    "B2-half": "B1-half",
    "F": "A1-half",
    "F-pretrained": "B1-half",
}


def comparisons(scored: dict[Name, Scored], table: dict[str, Any]) -> list[dict[str, Any]]:
    """All comparisons of which both rows have a seed in common, with p-values corrected for their
    number by Holm's method."""
    found = [
        {**_compared(scored, *pair), "cost": _relative_cost(table, pair[0][0], pair[1][0])}
        for pair in _pairs(scored)
        if shared_seeds(scored, pair)
    ]
    corrected = holm([pair["p_value"] for pair in found])
    return [{**pair, "p_holm": p} for pair, p in zip(found, corrected, strict=True)]


def _pairs(scored: dict[Name, Scored]) -> list[tuple[Name, Name]]:
    """The comparisons of the claim, of ablations with E, of changes of C-split and E-split with
    these, and of the other views."""
    names = {row.name for row in (*MAIN, *SPLIT)}
    pairs = [((ours, who), (other, who)) for ours, who, others in AGAINST for other in others]
    alone = alone_by_sparsity(scored)
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


def alone_by_sparsity(scored: dict[Name, Scored]) -> dict[float, str]:
    """Rows with a single sparsity (E, E-0.5 and so on), by sparsity."""
    return {
        found.size["sparsity"]: row
        for (row, who), found in scored.items()
        if who == "device" and (row == "E" or row.removeprefix("E-").replace(".", "").isdigit())
    }


def shared_seeds(scored: dict[Name, Scored], names: Iterable[Name]) -> list[int]:
    """Seeds that all of ``names`` have; empty if one of them has no results."""
    each = [set(scored[name].seeds) if name in scored else set() for name in names]
    return sorted(set.intersection(*each)) if each else []


def _compared(scored: dict[Name, Scored], ours: Name, theirs: Name) -> dict[str, Any]:
    """The difference on the same utterances, with an interval by speakers for these trained models,
    and Student's interval over seeds for models trained with other seeds."""
    seeds = shared_seeds(scored, (ours, theirs))
    first, second = scored[ours].of(seeds), scored[theirs].of(seeds)
    (a, groups, corpora), (b, *_) = first.pooled(), second.pooled()
    found = compare(a, b, groups, corpora)
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
        "seeds": dict(zip(map(str, seeds), differences, strict=True)),
        "ci95_over_seeds": over_seeds(differences),
    }


def over_seeds(differences: Sequence[float]) -> list[float] | None:
    """95 % interval by Student's t; None for a single seed, which has no variation."""
    if len(differences) < 2:
        return None
    error = float(np.std(differences, ddof=1)) / len(differences) ** 0.5
    reach = float(student.ppf(0.975, len(differences) - 1)) * error
    middle = float(np.mean(differences))
    return [middle - reach, middle + reach]


def _relative_cost(table: dict[str, Any], ours: str, theirs: str) -> dict[str, Any]:
    """FLOPs and minutes of a row, relative to those of the other row and its counterpart, on seeds
    that all have; None if there are none."""
    rows = [theirs, *([APART[theirs]] if theirs in APART else [])]
    found: dict[str, Any] = {"of": rows, "flops": None, "minutes": None}
    if not {ours, *rows} <= set(table):
        return found
    seeds = set.intersection(*(set(table[row]["costs"]) for row in (ours, *rows)))
    if not seeds:
        return found

    def total(row: str, key: str) -> float:
        return float(sum(table[row]["costs"][seed][key] for seed in seeds))

    for key in ("flops", "minutes"):
        found[key] = total(ours, key) / sum(total(row, key) for row in rows)
    return found
