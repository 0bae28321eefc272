"""Select the cuts of a CutSet that can be trained on or scored, and say why others cannot."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

from lhotse import CutSet, SupervisionSegment
from lhotse.cut import Cut
from lhotse.utils import fastcopy

from dualmode.audio import SAMPLE_RATE_HZ
from dualmode.config import DataConfig, TextConfig
from dualmode.data.left_out import Report
from dualmode.data.phones import phones_of
from dualmode.errors import DataError, TextError
from dualmode.features import Framing, mel_frames
from dualmode.text import UNKNOWN_ID, Tokens, normalize

CONFIDENCE = "confidence"  # custom field of a supervision: its teacher's confidence, 0 to 1


class UnusableError(Exception):
    """Why a cut or a file is left out: a short name of the kind of problem, and a sentence."""

    def __init__(self, kind: str, why: str) -> None:
        # Both go to the base class, so that the error can be pickled.
        super().__init__(kind, why)
        self.kind = kind
        self.why = why


def usable_cuts(
    cuts: CutSet,
    tokens: Tokens | None,
    text: TextConfig,
    data: DataConfig,
    framing: Framing,
    *,
    phones: bool = False,
) -> tuple[CutSet, Report]:
    """Select usable cuts, with one supervision per cut and its text normalised.

    A cut with several supervisions becomes one cut for each. Duplicate ids, durations outside the
    recipe's limits, missing transcripts, text that cannot be normalised, and text that is too long
    for its frames at the fastest speed are left out. No audio is read. Without ``tokens``, texts
    are ignored and dropped. With ``phones``, cuts without aligned phones are left out too.

    Raises:
        DataError: no cut is left; the message says why.
    """
    report = Report("usable cuts")
    kept: dict[str, Cut] = {}
    for cut in _single_supervisions(cuts):
        try:
            if cut.id in kept:
                raise UnusableError("duplicate id", "another cut has the same id: make ids unique")
            _check_audio(cut, data)
            if phones and not phones_of(cut):
                raise UnusableError("no phones", "no aligned phones: align it, or leave it out")
            if tokens is not None:
                cut = _normalized(cut, tokens, text, data, framing)
            kept[cut.id] = cut if phones or tokens is not None else cut.drop_supervisions()
            report.keep(cut.duration)
        except UnusableError as problem:
            report.leave_out(cut.id, source_of(cut), problem.kind, problem.why)
    if not kept:
        first = f"; the first: {report.problems[0].why}" if report.problems else ""
        raise DataError(f"no cut can be used ({report.summary()}){first}")
    return CutSet.from_cuts(kept.values()), report


def confidence_of(cut: Cut) -> float:
    """Confidence of the teacher that transcribed a cut; 1 for human transcripts."""
    custom = cut.supervisions[0].custom if cut.supervisions else None
    return float((custom or {}).get(CONFIDENCE, 1.0))


def source_of(cut: Cut) -> str:
    """Path of a cut's audio, for messages."""
    recording = getattr(cut, "recording", None)
    sources = recording.sources if recording is not None else ()
    return str(sources[0].source) if sources and sources[0].type != "memory" else "(no file)"


def fits(tokens: Sequence[int], seconds: float, framing: Framing) -> bool:
    """Whether CTC can align the tokens: one per frame, and a blank between equal ones.

    The transducer needs fewer frames, but the auxiliary CTC would have no alignment.
    """
    repeats = sum(a == b for a, b in pairwise(tokens))
    frames = framing.frames(mel_frames(math.floor(seconds * SAMPLE_RATE_HZ)))
    return len(tokens) + repeats <= frames


def _single_supervisions(cuts: CutSet) -> Iterable[Cut]:
    for cut in cuts:
        if len(cut.supervisions) > 1:
            yield from cut.trim_to_supervisions(keep_overlapping=False)
        else:
            yield cut


def _check_audio(cut: Cut, data: DataConfig) -> None:
    if not cut.has_recording:
        raise UnusableError("no audio", "the cut has no recording: prepare it with audio")
    if not data.min_seconds <= cut.duration <= data.max_seconds:
        limits = f"{data.min_seconds:g} to {data.max_seconds:g} s"
        raise UnusableError(
            "duration",
            f"{cut.duration:.2f} s is outside {limits}: see data.min_seconds, data.max_seconds",
        )


def _normalized(
    cut: Cut, tokens: Tokens, text: TextConfig, data: DataConfig, framing: Framing
) -> Cut:
    """The cut with its text normalised. Raises UnusableError."""
    if not cut.supervisions or not (cut.supervisions[0].text or "").strip():
        raise UnusableError("no transcript", "no text: transcribe it, or pre-train on it")
    try:
        normalized = normalize(cut.supervisions[0].text, text)
    except TextError as error:
        raise UnusableError("text", str(error)) from None
    ids = tokens.encode(normalized)
    if UNKNOWN_ID in ids:
        raise UnusableError("text", f"symbols without a token in {normalized!r}")
    if confidence_of(cut) < data.min_confidence:
        raise UnusableError(
            "unsure", f"the teacher's confidence is {confidence_of(cut):.2f}: see min_confidence"
        )
    if not fits(ids, cut.duration / max((1.0, *data.speeds)), framing):
        raise UnusableError(
            "text too long",
            f"{len(ids)} tokens do not fit into {cut.duration:.2f} s of frames of "
            f"{framing.frame_ms} ms: does the text belong here?",
        )

    def with_text(supervision: SupervisionSegment) -> SupervisionSegment:
        return fastcopy(supervision, text=normalized)

    return cut.map_supervisions(with_text)
