"""The measurement of real steps runs every way to share a step, on real batches and on one."""

from __future__ import annotations

from pathlib import Path

from benchmarks.real_steps import WAYS, measure_real_steps, table


def test_every_way_is_measured(tiny_recipe: Path, tiny_corpus: Path) -> None:
    found = measure_real_steps(str(tiny_recipe), tiny_corpus, processes=1, rounds=1)
    assert set(found) == {f"{way}, {kind}" for way in WAYS for kind in ("real", "one batch")}
    assert all(speed > 0 for speeds in found.values() for speed in speeds.values())
    assert len(table({"tiny": found}).rows) == len(found)
