"""Cuts of any CutSet are kept or reported, and never dropped silently."""

from __future__ import annotations

import re

import pytest
from lhotse import CutSet, SupervisionSegment
from lhotse.cut import Cut

from dualmode.config import DataConfig, TextConfig
from dualmode.data.usable import fits, usable_cuts
from dualmode.errors import DataError
from dualmode.features import Framing
from dualmode.text import Tokens

TEXT = TextConfig()
FRAMING = Framing(40)
DATA = DataConfig(max_seconds=20)


def with_text(cut: Cut, text: str | None) -> Cut:
    cut.supervisions[0].text = text
    return cut


def judged(cut: Cut, tokens: Tokens, good: Cut) -> tuple[str, str]:
    kept, report = usable_cuts(CutSet.from_cuts([cut, good]), tokens, TEXT, DATA, FRAMING)
    assert list(kept.ids) == [good.id]
    assert report.kept == 1
    (problem,) = report.problems
    assert problem.what == cut.id
    return problem.kind, problem.why


@pytest.mark.parametrize(
    ("seconds", "text", "kind", "why"),
    [
        (0.05, "stop", "duration", "0.05 s"),
        (25.0, "stop", "duration", "25.00 s"),
        (1.0, None, "no transcript", "transcribe"),
        (1.0, "  ", "no transcript", "transcribe"),
        (1.0, "stop at 9", "text", "digits"),
        (1.0, "\u505c", "text", r"U\+505C"),
        (1.0, "...", "text", "no words"),
        (1.0, "open the door now and turn off the light", "text too long", "1.00 s"),
    ],
)
def test_what_cannot_be_used(  # type: ignore[no-untyped-def]
    make_cut, tokens: Tokens, seconds: float, text: str | None, kind: str, why: str
) -> None:
    found = judged(with_text(make_cut("bad", seconds), text), tokens, make_cut("good"))
    assert found[0] == kind
    assert re.search(why, found[1])


def test_duplicates_are_left_out_once(make_cut, tokens: Tokens) -> None:  # type: ignore[no-untyped-def]
    twins = CutSet.from_cuts([make_cut("twin"), make_cut("other")]) + CutSet.from_cuts(
        [make_cut("twin", 1.5)]
    )
    kept, report = usable_cuts(twins, tokens, TEXT, DATA, FRAMING)
    assert sorted(kept.ids) == ["other", "twin"]
    assert [(p.what, p.kind) for p in report.problems] == [("twin", "duplicate id")]


def test_text_is_normalised_and_the_original_left_alone(make_cut, tokens: Tokens) -> None:  # type: ignore[no-untyped-def]
    cut = with_text(make_cut("loud"), "STOP, now!")
    kept, _ = usable_cuts(CutSet.from_cuts([cut]), tokens, TEXT, DATA, FRAMING)
    assert kept["loud"].supervisions[0].text == "stop now"
    assert cut.supervisions[0].text == "STOP, now!"


def test_a_recording_of_several_utterances_becomes_several_cuts(make_cut, tokens: Tokens) -> None:  # type: ignore[no-untyped-def]
    cut = make_cut("meeting", 5.0)
    cut.supervisions = [
        SupervisionSegment("one", "meeting", 0.5, 1.5, text="call anna"),
        SupervisionSegment("two", "meeting", 2.5, 2.0, text="stop"),
    ]
    kept, report = usable_cuts(CutSet.from_cuts([cut]), tokens, TEXT, DATA, FRAMING)
    found = {c.supervisions[0].text: (c.start, c.duration) for c in kept}
    assert found == {"call anna": (0.5, 1.5), "stop": (2.5, 2.0)}
    assert report.kept_seconds == pytest.approx(3.5)


def test_nothing_left_says_why(make_cut, tokens: Tokens) -> None:  # type: ignore[no-untyped-def]
    only = CutSet.from_cuts([with_text(make_cut("only"), "7")])
    with pytest.raises(DataError, match=r"no cut can be used .*digits"):
        usable_cuts(only, tokens, TEXT, DATA, FRAMING)
    with pytest.raises(DataError, match="no cut can be used"):
        usable_cuts(CutSet.from_cuts([]), tokens, TEXT, DATA, FRAMING)


def test_equal_neighbours_need_a_frame_between_them() -> None:
    seconds = 0.03 + 5 * 0.04  # five frames
    assert fits([4, 5, 6, 7, 8], seconds, FRAMING)
    assert not fits([4, 5, 6, 7, 8, 9], seconds, FRAMING)
    assert not fits([4, 4, 6, 7, 8], seconds, FRAMING)
    assert fits([], 0.0, FRAMING)


def test_longer_frames_hold_fewer_tokens(make_cut, tokens: Tokens) -> None:  # type: ignore[no-untyped-def]
    seconds = 0.07 + 5 * 0.08  # five frames of 80 ms
    assert fits([4, 5, 6, 7, 8], seconds, Framing(80))
    assert not fits([4, 5, 6, 7, 8, 9], seconds, Framing(80))
    cut, good = with_text(make_cut("fast", 1.0), "open the door now"), make_cut("good")
    most = len(tokens.encode("open the door now"))
    assert 1.0 / 1.1 / 0.08 < most + 1 < 1.0 / 1.1 / 0.04, "this test needs another sentence"
    both = CutSet.from_cuts([cut, good])
    assert set(usable_cuts(both, tokens, TEXT, DATA, FRAMING)[0].ids) == {"fast", "good"}
    kept, report = usable_cuts(both, tokens, TEXT, DATA, Framing(80))
    assert set(kept.ids) == {"good"}
    assert "frames of 80 ms" in report.problems[0].why
