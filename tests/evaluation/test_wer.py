"""Error counts, against jiwer and by hand."""

from __future__ import annotations

import jiwer
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualmode.evaluation.wer import character_errors, word_errors

sentence = st.lists(st.sampled_from(["a", "bb", "c", "dd"]), max_size=7).map(" ".join)
pairs = st.lists(st.tuples(sentence, sentence), min_size=1, max_size=8)


@settings(deadline=None)
@given(pairs)
def test_counts_add_up_to_jiwer(pairs) -> None:
    references, hypotheses = [r for r, _ in pairs], [h for _, h in pairs]
    counts = word_errors(references, hypotheses)
    whole = jiwer.process_words(references, hypotheses)
    assert counts.insertions.sum() == whole.insertions
    assert counts.deletions.sum() == whole.deletions
    assert counts.substitutions.sum() == whole.substitutions
    assert counts.reference.tolist() == [len(r.split()) for r in references]
    said = np.array([len(h.split()) for h in hypotheses])
    assert (counts.reference - counts.deletions + counts.insertions == said).all()
    characters = character_errors(references, hypotheses)
    assert characters.reference.tolist() == [len(r) for r in references]


def test_known_errors() -> None:
    counts = word_errors(["the cat sat", "on it"], ["the hat sat down", "it"])
    assert counts.substitutions.tolist() == [1, 0]
    assert counts.insertions.tolist() == [1, 0]
    assert counts.deletions.tolist() == [0, 1]
    assert counts.rate == pytest.approx(3 / 5)
    assert counts.select([1]).rate == pytest.approx(1 / 2)


def test_no_utterances_and_unequal_numbers() -> None:
    assert np.isnan(word_errors([], []).rate)
    with pytest.raises(ValueError, match="1 references but 2"):
        word_errors(["a"], ["a", "b"])
