"""Combined results: means over seeds, intervals by speaker, paired differences."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.claim.comparisons import alone_by_sparsity, comparisons, shared_seeds
from benchmarks.claim.scores import Name, Scored, one_set, read_scores
from benchmarks.claim.stages import Comparison

# A supernet, and the rows that train its server and its device apart.
_WHOLES = (("E", "B1", "B2"), ("C-split", "A1-half", "A2-half"), ("E-split", "B1-half", "B2-half"))


def collect(comparison: Comparison) -> dict[str, Any]:
    """All results so far, as JSON values; rows without results are omitted.

    ``utterances`` lists the test set once. The errors of each row, recogniser and seed are lists in
    the same order, from which every rate, interval and difference can be computed again.

    Raises:
        CheckpointError: a training has another length than this comparison.
        DataError: rows were scored on different test sets.
    """
    scored: dict[Name, Scored] = {}
    table: dict[str, Any] = {}
    for row in comparison.profile.rows:
        recognisers = read_scores(comparison, row)
        if not recognisers:
            continue
        scored |= {(row.name, name): found for name, found in recognisers.items()}
        done = next(iter(recognisers.values())).seeds
        costs = {str(seed): comparison.cost(row.stage, seed) for seed in done}
        table[row.name] = {
            "title": row.title,
            "seeds": list(done),
            **{name: found.summary() for name, found in recognisers.items()},
            "cost": {
                key: float(np.mean([cost[key] for cost in costs.values()]))
                for key in costs[str(done[0])]
            },
            "costs": costs,
            "batch_seconds": comparison.batch_seconds(row.stage, done[0]),
            "step_seconds": [comparison.step_seconds(row.stage, seed) for seed in done],
            "curves": {str(seed): comparison.curve(row.stage, seed) for seed in done},
        }
    if not scored:
        return {"rows": {}}
    return {
        "profile": comparison.profile.name,
        "scale": comparison.scale,
        "seeds": sorted({seed for found in scored.values() for seed in found.seeds}),
        "utterances": one_set([found.test for found in scored.values()]).to_dict(),
        "rows": table,
        "comparisons": comparisons(scored, table),
        "cost_to_match": cost_to_match(table),
        "sparsities": _by_sparsity(scored),
    }


def _by_sparsity(scored: dict[Name, Scored]) -> dict[str, list[tuple[float, dict[str, Any]]]]:
    """Sparsity and WER of device, of one supernet for all sparsities and of one for each, over
    common seeds; empty without such rows."""
    several = {
        found.size["sparsity"]: name
        for name, found in scored.items()
        if name[0] == "E-sparsities" and name[1] != "server"
    }
    alone = {sparsity: (row, "device") for sparsity, row in alone_by_sparsity(scored).items()}
    seeds = shared_seeds(scored, [*several.values(), *alone.values()])
    if not several or not seeds:
        return {}
    return {
        label: [(s, scored[names[s]].of(seeds).rate()) for s in sorted(names)]
        for label, names in (("one supernet for all", several), ("a supernet each", alone))
    }


def cost_to_match(table: dict[str, Any]) -> dict[str, dict[str, dict[str, float | None]]]:
    """FLOPs at which a supernet first equals the best rates, on the development set, of the rows
    that train its recognisers apart, relative to the FLOPs of both: ``reached`` by supernet and
    seed, None if it never does.

    Only settled rates count, so no value is below ``earliest``. The learning rate is not low yet
    before the end of a training, so this overestimates the cost.
    """
    return {
        whole: found
        for whole, *apart in _WHOLES
        if {whole, *apart} <= set(table) and (found := _cost_to_match(table, whole, *apart))
    }


def _cost_to_match(
    table: dict[str, Any], whole: str, server: str, device: str
) -> dict[str, dict[str, float | None]]:
    apart = table[server]["cost"]["flops"] + table[device]["cost"]["flops"]
    found: dict[str, dict[str, float | None]] = {}
    for seed, curve in table[whole]["curves"].items():
        settled = [point for point in curve if point["settled"]]
        try:
            goals = {
                name: min(p[name] for p in table[row]["curves"][seed] if p["settled"])
                for name, row in (("server", server), ("device", device))
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
