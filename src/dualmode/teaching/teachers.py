"""Teachers: recognisers that transcribe recordings with a confidence, behind one interface.

To add one, implement :class:`Teacher` and open it in :func:`open_teacher`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dualmode.audio import SAMPLE_RATE_HZ, Samples
from dualmode.errors import DataError

WINDOW_S = 30.0  # duration of Whisper's training windows
_MARGIN_S = 3.0  # silence after the longest clip of a short window, without which Whisper loops
_TOKENS_A_SECOND = 8.0  # more than in any English speech, less than in loops
_FEW_TOKENS = 8
_FRAMES = 100  # short windows are multiples of this many mel frames, to limit the shapes
_MEL_FRAME_HZ = 100


@dataclass(frozen=True)
class Transcription:
    """A teacher's transcription of a clip.

    Attributes:
        text: text with case, punctuation and digits.
        log_prob: mean log-probability of its tokens, in nats.
        no_speech: probability that there is no speech, if the teacher estimates it.
        english: probability that it is English; 1 if the teacher supports no other language.
    """

    text: str
    log_prob: float
    no_speech: float = 0.0
    english: float = 1.0

    @property
    def confidence(self) -> float:
        """Geometric mean of the token probabilities, 0 to 1."""
        return min(1.0, math.exp(self.log_prob))


class Teacher(Protocol):
    """Transcribes clips."""

    def transcribe(self, clips: Sequence[Samples], *, whole_windows: bool) -> list[Transcription]:
        """Transcribe clips of (S,) samples at 16 kHz, at most 30 s each.

        Args:
            whole_windows: use the teacher's full window, which is slower and more accurate,
                instead of one as short as the clips allow.
        """


class WhisperTeacher:
    """Whisper (Radford et al., 2212.04356) with faster-whisper: any size, greedy search, int8.

    Args:
        folder: a CTranslate2 model: ``model.bin``, ``config.json``, ``tokenizer.json``.

    Raises:
        DataError: the package or the model is missing.
    """

    def __init__(self, folder: Path, threads: int = 1) -> None:
        if not (folder / "model.bin").is_file():
            raise DataError(
                f"{folder}: no model.bin; use the folder of a Whisper model for faster-whisper"
            )
        try:
            from faster_whisper import WhisperModel
            from faster_whisper.tokenizer import Tokenizer
            from faster_whisper.transcribe import get_suppressed_tokens
        except ImportError:
            raise DataError(
                "a teacher needs faster-whisper: pip install 'dualmode[teach]'"
            ) from None
        self._whisper: Any = WhisperModel(
            str(folder), device="cpu", compute_type="int8", cpu_threads=threads
        )
        many = self._whisper.model.is_multilingual
        self._tokenizer: Any = Tokenizer(
            self._whisper.hf_tokenizer, many, task="transcribe" if many else None, language="en"
        )
        self._prompt = self._whisper.get_prompt(self._tokenizer, [], without_timestamps=True)
        self._suppressed = get_suppressed_tokens(self._tokenizer, [-1])

    def transcribe(self, clips: Sequence[Samples], *, whole_windows: bool) -> list[Transcription]:
        """See :class:`Teacher`. Short windows take a sixth of the time, but loop more often."""
        if not clips:
            return []
        longest_s = max(len(clip) for clip in clips) / SAMPLE_RATE_HZ
        if longest_s > WINDOW_S:
            raise DataError(f"a clip has {longest_s:.1f} s: cut it to {WINDOW_S:g} s or less")
        window_s = WINDOW_S if whole_windows else min(WINDOW_S, longest_s + _MARGIN_S)
        features = self._features(clips, window_s)
        most = round(_TOKENS_A_SECOND * longest_s) + _FEW_TOKENS + len(self._prompt)
        encoded = self._whisper.encode(features)
        results = self._whisper.model.generate(
            encoded,
            [self._prompt] * len(clips),
            beam_size=1,
            max_length=min(most, self._whisper.max_length),
            no_repeat_ngram_size=3,
            suppress_blank=True,
            suppress_tokens=self._suppressed,
            return_scores=True,
            return_no_speech_prob=True,
        )
        english = self._english(encoded, len(clips))
        pairs = zip(results, english, strict=True)
        return [self._transcription(result, share) for result, share in pairs]

    def _features(self, clips: Sequence[Samples], window_s: float) -> Any:
        frames = math.ceil(window_s * _MEL_FRAME_HZ / _FRAMES) * _FRAMES
        samples = frames * SAMPLE_RATE_HZ // _MEL_FRAME_HZ
        extract = self._whisper.feature_extractor
        mels = [extract(np.pad(clip, (0, samples - len(clip)))) for clip in clips]
        return np.stack([mel[:, :frames] for mel in mels])

    def _english(self, encoded: Any, count: int) -> list[float]:
        if not self._whisper.model.is_multilingual:
            return [1.0] * count
        detected = self._whisper.model.detect_language(encoded)
        return [float(dict(languages).get("<|en|>", 0.0)) for languages in detected]

    def _transcription(self, result: Any, english: float) -> Transcription:
        tokens = result.sequences_ids[0]
        # CTranslate2's score is already a mean, and counts the end of the text as a token.
        mean = result.scores[0] * max(1, len(tokens)) / (len(tokens) + 1)
        text = self._tokenizer.decode(tokens).strip()
        return Transcription(text, float(mean), float(result.no_speech_prob), english)


def open_teacher(name: str | Path) -> Teacher:
    """Open the teacher in a folder.

    Raises:
        DataError: the folder contains no teacher, or its package is missing.
    """
    return WhisperTeacher(Path(name))
