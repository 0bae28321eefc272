"""What of a CutSet is scored, in which batches, and what is left out."""

from __future__ import annotations

from pathlib import Path

from dualmode.audio import SAMPLE_RATE_HZ
from dualmode.config import TextConfig
from dualmode.evaluation.utterances import Skipped, scorable_batches


def test_every_usable_cut_is_in_one_batch_and_no_batch_is_too_long(make_cut) -> None:
    cuts = [make_cut("c" * i, "one two", seconds=0.5 * i) for i in range(6, 0, -1)]
    skipped: list[Skipped] = []
    batches = list(scorable_batches(cuts, TextConfig(), skipped, batch_seconds=4.0))
    lengths = [[len(samples) for _, samples in batch] for batch in batches]
    together = [n for batch in lengths for n in batch]
    assert not skipped
    assert len(batches) > 1
    assert together == sorted(together)
    assert len(together) == len(cuts)
    padded = [len(batch) * max(batch) for batch in lengths if len(batch) > 1]
    assert padded
    assert max(padded) <= 4.0 * SAMPLE_RATE_HZ


def test_what_cannot_be_scored_is_named_and_the_rest_is_kept(make_cut) -> None:
    good, broken, empty = make_cut("good", "one"), make_cut("broken", "one"), make_cut("no", " ")
    Path(broken.recording.sources[0].source).write_bytes(b"not audio")
    skipped: list[Skipped] = []
    (batch,) = scorable_batches([broken, empty, good], TextConfig(), skipped)
    assert [utterance.id for utterance, _ in batch] == ["good"]
    assert {one.id for one in skipped} == {"broken", "no"}
    assert all(one.why for one in skipped)
    assert "broken" in next(one.why for one in skipped if one.id == "broken")


def test_an_alignment_counts_only_if_it_has_every_word(make_cut) -> None:
    whole = make_cut("whole", "one two", ends=[0.5, 1.0])
    other = make_cut("other", "one two", ends=[0.5, 1.0])
    other.supervisions[0].text = "one two three"
    (batch,) = scorable_batches([whole, other], TextConfig(), [])
    assert {u.id: u.word_ends_s for u, _ in batch} == {"whole": (0.5, 1.0), "other": ()}
