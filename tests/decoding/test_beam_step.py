"""Hypotheses with the same tokens are joined: their probabilities add up, the likelier keeps its
history."""

from __future__ import annotations

import numpy as np
import pytest

from dualmode.decoding.beam import BeamSearch
from dualmode.decoding.beam_step import merge
from dualmode.runtime import Floats, Ids


class Table:
    """Log-probabilities of blank and one token that depend on the frame alone."""

    context_tokens = 1

    def predict(self, context: Ids) -> Floats:
        return context.astype(np.float64)

    def score(self, frames: Floats, predictions: Floats) -> Floats:
        return np.log(np.concatenate([1 - frames, frames], axis=1))


@pytest.mark.parametrize(
    ("chances", "frame"), [((0.4, 0.9), 1), ((0.9, 0.1), 0), ((0.3, 0.6, 0.2), 1)]
)
def test_a_joined_hypothesis_has_the_frames_of_its_likelier_history(
    chances: tuple[float, ...], frame: int
) -> None:
    search = BeamSearch(Table(), width=8, gap=np.inf)
    frames = np.array(chances).reshape(1, -1, 1)
    state = search.advance(search.start(1), frames, np.array([len(chances)]))
    (best,) = search.best(state)
    assert [(token.id, token.frame) for token in best] == [(1, frame)]
    once = [
        chance * np.prod([1 - other for at, other in enumerate(chances) if at != number])
        for number, chance in enumerate(chances)
    ]
    assert state.scores[0, 0] == pytest.approx(np.log(sum(once)))


@pytest.mark.parametrize("lowest", [-np.inf, -0.5])
def test_joining_is_what_a_plain_loop_does(lowest: float) -> None:
    rng = np.random.default_rng(0)
    stronger = 0
    for _ in range(50):
        # Hypotheses "", "a", "ab" and "c"; keys stand for their tokens with and without the last.
        last = np.array([0, 1, 2, 3])
        keys, without = np.array([[0, 1, 12, 3]]), np.array([[-1, 0, 1, 0]])
        candidates = rng.normal(size=(4, 5))
        expected = candidates.copy()
        for h, g in ((1, 0), (2, 1), (3, 0)):
            stay, grow = (h, 0), (g, last[h])
            chances = [
                candidates[at] if candidates[at] >= lowest else -np.inf for at in (stay, grow)
            ]
            keeps, loses = (grow, stay) if chances[1] > chances[0] else (stay, grow)
            expected[keeps], expected[loses] = np.logaddexp(*chances), -np.inf
            stronger += keeps == grow
        merge(candidates, np.full(4, lowest), last, keys, without)
        np.testing.assert_allclose(candidates, expected)
    assert 40 < stronger < 110
