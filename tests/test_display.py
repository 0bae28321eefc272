"""Growing text: every change is seen, on a terminal and in a file, at a pace that eyes follow."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
from rich.console import Console

from dualmode.decoding.stream import Partial
from dualmode.decoding.transcript import Transcript, Word
from dualmode.display import GrowingText, make_console, show_stream


def words(text: str) -> tuple[Word, ...]:
    return tuple(Word(word, 0.0, 0.1, 1.0) for word in text.split())


class _Session:
    """A stream that hears one more word of a sentence in every piece."""

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence.split()
        self.result = 0
        self.seconds = 0.0

    def push(self, samples: np.ndarray[tuple[int], np.dtype[np.float32]]) -> Partial | None:
        self.seconds += len(samples) / 16000
        self.result += 1
        return Partial(words(" ".join(self.sentence[: self.result])), self.result - 1)

    def finish(self) -> Transcript:
        return Transcript(words(" ".join(self.sentence)), self.seconds)


PIECES = [np.zeros(800, np.float32)] * 4  # 50 ms each


def shown(terminal: bool, real_time: bool = False) -> str:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=20, color_system=None)
    with GrowingText(console) as growing:
        result = show_stream(
            _Session("open the front door"),  # type: ignore[arg-type]
            PIECES,
            growing,
            real_time=real_time,
        )
    assert result.text == "open the front door"
    return file.getvalue()


def test_a_file_gets_a_line_a_change_and_none_is_cut() -> None:
    lines = shown(terminal=False).splitlines()
    assert [line.split(" s  ")[1] for line in lines] == [
        "open",
        "open the",
        "open the front",
        "open the front door",
    ]


def test_a_terminal_shows_the_newest_text() -> None:
    assert "front" in shown(terminal=True)


def test_a_segment_that_ended_stays_on_a_line_of_its_own() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=False, width=80)
    ended = Partial((), 0, (Transcript(words("it is done"), 2.5),))
    with GrowingText(console) as growing:
        growing.show(3.0, ended)
    assert file.getvalue().split() == ["2.50", "s", "it", "is", "done"]


@pytest.mark.parametrize("real_time", [True, False])
def test_the_pace_is_that_of_the_audio_or_none(real_time: bool) -> None:
    began = time.perf_counter()
    shown(terminal=False, real_time=real_time)
    took = time.perf_counter() - began
    audio = sum(len(piece) for piece in PIECES) / 16000
    assert took >= audio if real_time else took < audio


def test_tables_have_room_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    make_console().print("x" * 110)
    assert capsys.readouterr().out.splitlines() == ["x" * 110]
