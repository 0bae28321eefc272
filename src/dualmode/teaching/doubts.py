"""Detect implausible texts of a teacher: loops, hallucinations, impossible speaking rates.

A loop has a *high* mean log-probability, since each repetition is easy to predict. It is detected
by the repetition itself, and by the speaking rate.
"""

from __future__ import annotations

import re
from collections import Counter

from dualmode.config import TextConfig
from dualmode.errors import TextError
from dualmode.evaluation.wer import word_errors
from dualmode.teaching.teachers import Transcription
from dualmode.text import normalize

TEXT = TextConfig(digits="spell")

_MOST_WORDS_A_SECOND = 5.0
_FREE_WORDS = 2  # not counted in the speaking rate, as short clips are cut close to their words
_MOST_LETTERS_A_SECOND = 25.0
_FEWEST_WORDS_A_SECOND = 0.15
_LONG_S = 8.0  # from this duration on, very few words mean that most were not transcribed
_NO_SPEECH, _UNSURE_LOG_PROB = 0.6, -0.8
_LEAST_ENGLISH = 0.4
# Numbers and spelled words contain repetitions, so a loop needs many.
_LOOP_LENGTHS = (1, 2, 3, 4, 5)
_LOOP_TURNS = 4
_FEWEST_NEARLY_AGAIN, _MOST_CHANGED = 4, 0.5  # words of a text; share of words
# Texts that Whisper, having learnt from subtitles, outputs for silence and music.
_FROM_SUBTITLES = re.compile(
    r"thank(s| you) (so much |very much )?for (watching|listening)|subtitles? by|"
    r"(please )?(like and )?subscribe|see you (in the next|next time)|transcri(bed|ption) by|"
    r"copyright|www\.|amara\.org",
    re.IGNORECASE,
)
_LONE = {"you", "thank you", "bye", "so", "the", "oh", "uh", "hmm", "mm", "music", "applause"}


def doubt(output: Transcription, seconds: float) -> tuple[str, str] | None:
    """A kind and a reason to doubt the transcription of a clip of ``seconds``, or None."""
    try:
        text = normalize(output.text, TEXT)
    except TextError as error:
        return "text", str(error)
    words = text.split()
    if output.english < _LEAST_ENGLISH:
        return "language", f"English with a probability of only {output.english:.2f}"
    if output.no_speech > _NO_SPEECH and output.log_prob < _UNSURE_LOG_PROB:
        return (
            "no speech",
            f"silence with a probability of {output.no_speech:.2f}, but {text!r}",
        )
    if _FROM_SUBTITLES.search(output.text) or (text in _LONE and output.no_speech > _NO_SPEECH):
        return "hallucination", f"{text!r} is a text that teachers write for silence"
    if (looped := loop(words)) is not None:
        return "loop", f"{looped!r} is repeated"
    return _pace(words, seconds)


def loop(words: list[str]) -> str | None:
    """The words that a text repeats at least ``_LOOP_TURNS`` times in a row, or None."""
    for length in _LOOP_LENGTHS:
        turns = _LOOP_TURNS + (2 if length == 1 else 0)
        for start in range(len(words) - length * turns + 1):
            first = words[start : start + length]
            if all(
                words[start + turn * length : start + (turn + 1) * length] == first
                for turn in range(1, turns)
            ):
                return " ".join(first)
    if len(words) >= 20:
        trigrams = Counter(zip(words, words[1:], words[2:], strict=False))
        most, count = trigrams.most_common(1)[0]
        if count >= _LOOP_TURNS and 3 * count > len(words) / 2:
            return " ".join(most)
    return None


def said_again(text: str) -> bool:
    """Whether a text seems to say the same twice or more, as teachers do in short windows.

    The repetition may differ in half of its words: "nine thirty sixty five nine thirty five sixty
    five". People repeat themselves too, so this is a reason to transcribe a clip in a whole
    window, but not to leave it out.
    """
    try:
        words = normalize(text, TEXT).split()
    except TextError:
        return False
    count = len(words)
    for length in range(1, count // 2 + 1):
        if count % length == 0 and words == words[:length] * (count // length):
            return True
    middle = count // 2
    return count >= _FEWEST_NEARLY_AGAIN and any(
        words[cut] == words[0]
        and difference(" ".join(words[:cut]), " ".join(words[cut:])) <= _MOST_CHANGED
        for cut in range(middle - 1, middle + 2)
    )


def _pace(words: list[str], seconds: float) -> tuple[str, str] | None:
    letters = sum(map(len, words))
    if len(words) > _FREE_WORDS + _MOST_WORDS_A_SECOND * seconds:
        return "too fast", f"{len(words)} words in {seconds:.1f} s"
    if letters > _MOST_LETTERS_A_SECOND * max(seconds, 0.5):
        return "too fast", f"{letters} letters in {seconds:.1f} s"
    if seconds > _LONG_S and len(words) < _FEWEST_WORDS_A_SECOND * seconds:
        return "too slow", f"{len(words)} words in {seconds:.1f} s"
    return None


def difference(one: str, other: str) -> float:
    """Word error rate of one normalised text against another; 1 if one cannot be normalised."""
    try:
        first, second = normalize(one, TEXT), normalize(other, TEXT)
    except TextError:
        return 1.0
    return word_errors([first], [second]).rate
