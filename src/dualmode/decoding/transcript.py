"""Results of recognition: tokens, words and transcripts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from dualmode.decoding.confidence import UNCALIBRATED, Calibration
from dualmode.decoding.formats import to_dict, to_json, to_srt, to_vtt
from dualmode.language.written import written_words
from dualmode.text import UNKNOWN_ID, WORD_START


class Vocabulary(Protocol):
    """The part of ``dualmode.text.Tokens`` that is needed to form words."""

    @property
    def pieces(self) -> list[str]:
        """The text of every token, by id."""
        ...

    @property
    def word_starts(self) -> list[bool]:
        """For every token, whether it begins a word."""
        ...


@dataclass(frozen=True, slots=True)
class Token:
    """An emitted token.

    Attributes:
        id: index in the model's vocabulary.
        frame: index of the frame of the encoder that emitted it, from the start of the audio.
        log_prob: its log-probability there, in nats.
    """

    id: int
    frame: int
    log_prob: float


@dataclass(frozen=True, slots=True)
class Word:
    """A word with its times and confidence.

    Attributes:
        text: the word.
        start_s: time of its first token, in seconds from the start of the audio.
        end_s: end of the frame that emitted its last token, in seconds.
        confidence: geometric mean of the probabilities of its tokens, 0 to 1; after calibration,
            the probability that the word is correct.
    """

    text: str
    start_s: float
    end_s: float
    confidence: float


@dataclass(frozen=True, slots=True)
class WrittenWord:
    """A word in written form, such as ``88``, and its spoken words.

    Attributes:
        text: the word in written form.
        start_s, end_s: start of the first and end of the last spoken word, in seconds.
        confidence: lowest confidence of the spoken words.
        spoken: one or more words of :attr:`Transcript.words`.
    """

    text: str
    start_s: float
    end_s: float
    confidence: float
    spoken: tuple[Word, ...]


@dataclass(frozen=True)
class Alternative:
    """An alternative text of a beam search.

    Attributes:
        words: its words.
        score: log-probability plus the scores of phrases, hotwords and a language model.
        probability: its share of the probability of all alternatives.
    """

    words: tuple[Word, ...]
    score: float
    probability: float

    @property
    def text(self) -> str:
        """The words, separated by spaces."""
        return " ".join(word.text for word in self.words)


@dataclass(frozen=True)
class Transcript:
    """Transcript of a recording, or of a segment of a stream.

    Attributes:
        words: words in order, with times from the start of the recording or stream.
        seconds: end of the audio, in seconds from the same start.
        tokens: the tokens of the words.
        written: the words in written form, if requested.
        alternatives: the best texts, best first, if ``nbest`` is above 1 and the audio was
            recognised in one piece.
        rejected: whether the audio contains speech that is none of the given phrases; there are no
            words then.
        margin: with phrases, how well the best phrase fits, in nats per token: near 0 if it was
            spoken, far below 0 otherwise; -inf if no phrase was complete.
    """

    words: tuple[Word, ...]
    seconds: float
    tokens: tuple[Token, ...] = ()
    written: tuple[WrittenWord, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    rejected: bool = False
    margin: float | None = None

    @property
    def text(self) -> str:
        """The words, separated by spaces."""
        return " ".join(word.text for word in self.words)

    def to_dict(self) -> dict[str, Any]:
        """Text, seconds, and words with times and confidences."""
        return to_dict(self)

    def to_json(self) -> str:
        """:meth:`to_dict` as JSON, with a newline at the end."""
        return to_json(self)

    def to_srt(self) -> str:
        """SubRip captions of one or two lines."""
        return to_srt(self)

    def to_vtt(self) -> str:
        """WebVTT captions of one or two lines."""
        return to_vtt(self)

    @property
    def written_text(self) -> str:
        """The words in written form, separated by spaces; empty if not requested."""
        return " ".join(word.text for word in self.written)


@dataclass(frozen=True)
class TokenSpan:
    """The tokens and the text of one word; ``end`` is the number of tokens up to its last one."""

    text: str
    tokens: tuple[Token, ...]
    end: int

    def word(self, frame_s: float, calibration: Calibration = UNCALIBRATED) -> Word:
        """The word with times and confidence, from frames of ``frame_s`` seconds."""
        mean_log_prob = sum(token.log_prob for token in self.tokens) / len(self.tokens)
        return Word(
            text=self.text,
            start_s=round(self.tokens[0].frame * frame_s, 3),
            end_s=round((self.tokens[-1].frame + 1) * frame_s, 3),
            confidence=calibration.apply(min(1.0, math.exp(mean_log_prob))),
        )


def token_spans(tokens: Sequence[Token], vocabulary: Vocabulary) -> list[TokenSpan]:
    """Group tokens into words; groups without text, such as a lone ``<unk>``, are left out."""
    spans, end = [], 0
    for group in _split(tokens, vocabulary.word_starts):
        end += len(group)
        pieces = (vocabulary.pieces[token.id] for token in group if token.id > UNKNOWN_ID)
        text = "".join(pieces).replace(WORD_START, "")
        if text:
            spans.append(TokenSpan(text, tuple(group), end))
    return spans


def transcript_of(
    tokens: Sequence[Token],
    vocabulary: Vocabulary,
    seconds: float,
    frame_s: float,
    calibration: Calibration = UNCALIBRATED,
) -> Transcript:
    """A transcript from the tokens of a piece of audio; a frame lasts ``frame_s`` seconds."""
    words = (span.word(frame_s, calibration) for span in token_spans(tokens, vocabulary))
    return Transcript(tuple(_within(word, seconds) for word in words), seconds, tuple(tokens))


def in_writing(words: Sequence[Word]) -> tuple[WrittenWord, ...]:
    """The written form of words; see :mod:`dualmode.language.written`.

    Raises:
        LanguageError: the package text2num is missing.
    """
    alternatives = []
    for written in written_words([word.text for word in words]):
        spoken = tuple(words[written.begin : written.end])
        confidence = min(word.confidence for word in spoken)
        alternatives.append(
            WrittenWord(written.text, spoken[0].start_s, spoken[-1].end_s, confidence, spoken)
        )
    return tuple(alternatives)


def alternatives_of(
    hypotheses: Sequence[tuple[Sequence[Token], float]],
    vocabulary: Vocabulary,
    seconds: float,
    frame_s: float,
    calibration: Calibration = UNCALIBRATED,
) -> tuple[Alternative, ...]:
    """Alternatives from hypotheses and their scores, best first."""
    if not hypotheses:
        return ()
    most = max(score for _, score in hypotheses)
    total = sum(math.exp(score - most) for _, score in hypotheses)
    return tuple(
        Alternative(
            transcript_of(tokens, vocabulary, seconds, frame_s, calibration).words,
            score,
            math.exp(score - most) / total,
        )
        for tokens, score in hypotheses
    )


def _within(word: Word, seconds: float) -> Word:
    """Limit the times of words emitted in the appended silence to the end of the audio."""
    end = round(seconds, 3)
    return replace(word, start_s=min(word.start_s, end), end_s=min(word.end_s, end))


def _split(tokens: Sequence[Token], word_starts: list[bool]) -> Iterator[list[Token]]:
    group: list[Token] = []
    for token in tokens:
        if group and word_starts[token.id]:
            yield group
            group = []
        group.append(token)
    if group:
        yield group
