"""Long audio is cut where it is quiet, and nothing is lost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualmode.decoding.pieces import cut_pieces
from dualmode.features import Framing

FRAMINGS = [Framing(40), Framing(80)]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 60_000), max_size=12),
    st.floats(2.0, 4.0),
    st.integers(0, 1000),
    st.sampled_from(FRAMINGS),
)
def test_pieces_join_to_the_whole_and_know_where_they_start(
    sizes, longest_s, seed, framing
) -> None:
    rng = np.random.default_rng(seed)
    blocks = [rng.standard_normal(n).astype(np.float32) for n in sizes]
    whole = np.concatenate([np.zeros(0, np.float32), *blocks])
    pieces = list(cut_pieces(iter(blocks), longest_s, framing))
    joined = np.concatenate([np.zeros(0, np.float32), *(p.samples for p in pieces)])
    assert np.array_equal(joined, whole)
    assert all(0 < len(p.samples) <= longest_s * 16000 for p in pieces)
    at = 0
    for piece in pieces:
        assert piece.start * framing.frame_ms * 16 == at
        at += len(piece.samples)


@pytest.mark.parametrize("framing", FRAMINGS, ids=str)
def test_cuts_fall_into_the_gaps_between_words(framing: Framing) -> None:
    rng = np.random.default_rng(1)
    samples = rng.standard_normal(16000 * 60).astype(np.float32) * 0.1
    gaps = [(7.9, 8.3), (16.0, 16.5), (24.2, 24.5), (33.0, 33.4), (41.5, 42.0), (50.0, 50.4)]
    for start, end in gaps:
        samples[int(start * 16000) : int(end * 16000)] *= 0.01
    cuts = [p.start * framing.frame_s for p in cut_pieces([samples], 10.0, framing)][1:]
    assert cuts
    early = {40: 0.08, 80: 0.04}[framing.frame_ms]  # a longer frame begins before the quiet place
    assert all(any(a + early <= cut <= b - 0.08 for a, b in gaps) for cut in cuts), cuts


def test_memory_is_bounded_by_a_block_and_a_piece() -> None:
    alive = []

    def blocks():
        for _ in range(200):
            block = np.zeros(16000, np.float32)
            alive.append(1)
            yield block

    for number, _ in enumerate(cut_pieces(blocks(), 5.0, Framing(40))):
        assert len(alive) <= 6 + 5 * (number + 1), "pieces come while blocks are still to be read"


def test_pieces_too_short_to_cut_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        list(cut_pieces([np.zeros(100, np.float32)], 0.5, Framing(40)))


def test_a_cut_lies_in_the_middle_of_the_quiet() -> None:
    rng = np.random.default_rng(2)
    samples = rng.standard_normal(16000 * 5).astype(np.float32)
    first = 60  # of five quiet blocks of 40 ms
    samples[first * 640 : (first + 5) * 640] *= 0.01
    _, second = cut_pieces([samples], 4.0, Framing(40))
    assert second.start in (first + 2, first + 3)
    _, second = cut_pieces([samples], 4.0, Framing(80))
    assert second.start == (first + 3) // 2
