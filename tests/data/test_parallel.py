"""Work spread over processes comes back whole and in order."""

from __future__ import annotations

import math

import pytest

from dualmode.data.parallel import map_in_processes

ITEMS = [float(number) for number in range(40)]


@pytest.mark.parametrize(("jobs", "fresh"), [(1, False), (2, False), (2, True)])
def test_results_keep_the_order_of_the_items(jobs: int, fresh: bool) -> None:
    items = ITEMS[:4] if fresh else ITEMS
    found = list(map_in_processes(math.sqrt, items, title="t", jobs=jobs, fresh=fresh))
    assert found == [math.sqrt(item) for item in items]


@pytest.mark.parametrize("fresh", [False, True])
def test_no_item_is_no_work(fresh: bool) -> None:
    assert list(map_in_processes(math.sqrt, [], title="t", jobs=2, fresh=fresh)) == []


def test_an_error_in_a_process_is_raised_here() -> None:
    with pytest.raises(ValueError, match=r"math domain|nonnegative"):
        list(map_in_processes(math.sqrt, [*ITEMS, -1.0], title="t", jobs=2))
