"""Guidance: options for knowledge of the text, and their compilation for a search."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

from dualmode.config import DecodingConfig, TextConfig
from dualmode.decoding.confidence import UNCALIBRATED, Calibration
from dualmode.decoding.outcome import Hypothesis, Outcome
from dualmode.decoding.transcript import (
    Token,
    Transcript,
    Vocabulary,
    alternatives_of,
    in_writing,
    transcript_of,
)
from dualmode.errors import LanguageError, TextError
from dualmode.language.hotwords import Hotwords, compile_hotwords
from dualmode.language.knowledge import Fusion, Knowledge
from dualmode.language.ngram import NGram, read_ngram
from dualmode.language.phrases import PhraseAutomaton, compile_phrases, read_phrases
from dualmode.text import Tokens, normalize

HOTWORD_STRENGTH = 1.0  # default strength, in nats per token
LM_WEIGHTS = {"lm_weight": 0.3, "prior_weight": 0.2, "token_bonus": 0.0}
FUSIONS_KEPT = 4  # combinations of language parts


class Guidance(TypedDict, total=False):
    """Options for knowledge of the text, accepted by all methods that recognise.

    Attributes:
        phrases: the only possible texts: a list of phrases or of lines of a grammar
            (:mod:`dualmode.language.grammar`), the path of a file of them, or the result of
            ``Recognizer.compile_phrases``. A segment of a stream, or audio that is recognised in
            one piece, is one phrase.
        threshold: least margin of a phrase; see :attr:`Transcript.margin`. -inf accepts anything.
        hotwords: words and phrases to prefer, with their strength in nats per token.
        lm: a language model: the path of a file written by ``dualmode lm``, or a loaded model.
        lm_weight: weight of the language model; 0 disables it.
        prior_weight: weight of the transducer's internal language model, which is subtracted.
        token_bonus: score added for every token, to counteract texts that are too short.
        written: whether transcripts also have the written form.
        nbest: number of :attr:`Transcript.alternatives`, at most the width of the beam.
    """

    phrases: Sequence[str] | str | Path | PhraseAutomaton | None
    threshold: float
    hotwords: Mapping[str, float] | Sequence[str] | None
    lm: str | Path | NGram | None
    lm_weight: float
    prior_weight: float
    token_bonus: float
    written: bool
    nbest: int


@dataclass(frozen=True)
class Reading:
    """Contents of transcripts besides words.

    Attributes:
        written: whether transcripts have the written form.
        nbest: number of alternatives; 1 means none.
        calibration: calibration of the confidences of words.
    """

    written: bool = False
    nbest: int = 1
    calibration: Calibration = UNCALIBRATED

    def transcript(
        self,
        outcomes: Sequence[Outcome],
        vocabulary: Vocabulary,
        seconds: float,
        frame_s: float,
        earlier: Sequence[Token] = (),
    ) -> Transcript:
        """Combine the outcomes of consecutive pieces of audio to one transcript.

        Args:
            seconds: duration of the audio.
            frame_s: time from one frame of the encoder to the next, in seconds.
            earlier: tokens before those of the outcomes.
        """
        tokens = (*earlier, *(token for outcome in outcomes for token in outcome.tokens))
        found = transcript_of(tokens, vocabulary, seconds, frame_s, self.calibration)
        if self.written:
            found = replace(found, written=in_writing(found.words))
        if len(outcomes) != 1 or earlier:
            return replace(found, rejected=any(outcome.rejected for outcome in outcomes))
        (outcome,) = outcomes
        known = [h for h in outcome.hypotheses if not math.isnan(h.score)]
        texts = [(h.tokens, h.score) for h in known] if self.nbest > 1 else []
        return replace(
            found,
            alternatives=alternatives_of(texts, vocabulary, seconds, frame_s, self.calibration),
            rejected=outcome.rejected,
            margin=outcome.margin,
        )


@dataclass(frozen=True)
class Compiled:
    """Options, checked and compiled."""

    fusion: Fusion | None
    reading: Reading

    @property
    def needs_beam(self) -> bool:
        """Whether the options require a beam search."""
        return self.fusion is not None or self.reading.nbest > 1


def shifted(outcome: Outcome, frames: int) -> Outcome:
    """The same outcome, later by ``frames`` frames."""
    return replace(
        outcome,
        hypotheses=tuple(
            Hypothesis(
                tuple(replace(token, frame=token.frame + frames) for token in hypothesis.tokens),
                hypothesis.score,
                hypothesis.acoustic,
            )
            for hypothesis in outcome.hypotheses
        ),
    )


class Compiler:
    """Compiles options for one vocabulary, and caches recent results; may be used by several
    threads."""

    def __init__(
        self, tokens: Tokens, text: TextConfig, decoding: DecodingConfig | None = None
    ) -> None:
        decoding = decoding or DecodingConfig()
        self.calibration = Calibration(decoding.confidence_slope, decoding.confidence_offset)
        self._threshold = decoding.phrase_threshold
        self._tokens = tokens
        # Phrases may contain "22", but recognisers output "twenty two".
        self._text = text.model_copy(update={"digits": "spell"})
        self._kept: dict[object, PhraseAutomaton | Hotwords | NGram] = {}
        self._fusions: tuple[Fusion, ...] = ()
        self._lock = threading.RLock()

    def compile(self, options: Guidance) -> Compiled:
        """Check and compile options.

        Raises:
            LanguageError: phrases, hotwords or the language model are invalid.
        """
        with self._lock:
            return self._compile(options)

    def _compile(self, options: Guidance) -> Compiled:
        nbest = options.get("nbest", 1)
        if nbest < 1:
            raise LanguageError(f"nbest must be at least 1, not {nbest}")
        reading = Reading(options.get("written", False), nbest, self.calibration)
        if reading.written:
            in_writing(())  # raises if a package is missing, before any audio is read
        parts: list[Knowledge] = []
        weights: list[float] = []
        token_bonus = prior_weight = 0.0
        phrases, hotwords, model = (options.get(name) for name in ("phrases", "hotwords", "lm"))
        if phrases is not None:
            parts.append(self.phrases(options["phrases"]))
            weights.append(1.0)
        if hotwords is not None:
            parts.append(self._hotwords(options["hotwords"] or {}))
            weights.append(1.0)
        if model is not None:
            read = self._model(options["lm"])
            settings = LM_WEIGHTS | read.settings
            settings |= {name: options[name] for name in LM_WEIGHTS if name in options}  # type: ignore[literal-required]
            if settings["lm_weight"]:
                parts.append(read)
                weights.append(settings["lm_weight"])
                prior_weight, token_bonus = settings["prior_weight"], settings["token_bonus"]
        if not parts:
            return Compiled(None, reading)
        threshold = options.get("threshold", self._threshold)
        fusion = Fusion(
            tuple(parts), tuple(weights), token_bonus, prior_weight, phrases is not None, threshold
        )
        return Compiled(self._fused(fusion), reading)

    def _fused(self, fusion: Fusion) -> Fusion:
        """An equal fusion among the recent ones, if any, since searches cache results by it."""
        for kept in self._fusions:
            if kept.same(fusion):
                return kept
        self._fusions = (*self._fusions[1 - FUSIONS_KEPT :], fusion)
        return fusion

    def phrases(
        self, phrases: Sequence[str] | str | Path | PhraseAutomaton | None
    ) -> PhraseAutomaton:
        """Compile phrases; the same lines are compiled once.

        Raises:
            LanguageError: the phrases are invalid.
        """
        if isinstance(phrases, PhraseAutomaton):
            if phrases.spelling.pieces != tuple(self._tokens.pieces):
                raise LanguageError("the phrases were compiled for another model's tokens")
            return phrases
        lines = read_phrases(phrases) if isinstance(phrases, (str, Path)) else phrases or []
        key = ("phrases", *lines)
        with self._lock:
            kept = self._kept.get(key)
            if not isinstance(kept, PhraseAutomaton):
                kept = compile_phrases(lines, self._tokens, self._normalized)
                self._keep(key, kept)
        return kept

    def _hotwords(self, hotwords: Mapping[str, float] | Sequence[str]) -> Hotwords:
        if isinstance(hotwords, str):
            raise LanguageError("hotwords must be a list, or a mapping of words to strengths")
        if not isinstance(hotwords, Mapping):
            twice = {word for word in hotwords if list(hotwords).count(word) > 1}
            if twice:
                raise LanguageError(f"the hotword {min(twice)!r} is given twice: keep one of them")
            hotwords = dict.fromkeys(hotwords, HOTWORD_STRENGTH)
        key = ("hotwords", *sorted(hotwords.items()))
        kept = self._kept.get(key)
        if not isinstance(kept, Hotwords):
            kept = compile_hotwords(hotwords, self._tokens, self._normalized)
            self._keep(key, kept)
        return kept

    def _model(self, model: str | Path | NGram | None) -> NGram:
        if isinstance(model, NGram):
            model.check(self._tokens)
            return model
        assert model is not None
        path = Path(model)
        key = ("lm", path, path.stat().st_mtime_ns if path.is_file() else 0)
        kept = self._kept.get(key)
        if not isinstance(kept, NGram):
            kept = read_ngram(path)
            kept.check(self._tokens)
            self._keep(key, kept)
        return kept

    def _keep(self, key: object, value: PhraseAutomaton | Hotwords | NGram) -> None:
        while len(self._kept) >= 8:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = value

    def _normalized(self, text: str) -> str:
        try:
            return normalize(text, self._text)
        except TextError as error:
            raise LanguageError(str(error)) from None
