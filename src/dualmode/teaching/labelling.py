"""Transcribe recordings by a teacher into a CutSet with texts and confidences.

Clips are transcribed in short windows, which is cheap. Doubtful clips are transcribed again in
whole windows and left out, with the reason, if they are still doubtful. All transcriptions are
stored in ``labels.jsonl``, one line per clip, so that an interrupted run resumes and another
``min_confidence`` needs no new transcription.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from dualmode.audio import SAMPLE_RATE_HZ, Samples
from dualmode.data.left_out import Report
from dualmode.data.manifests import CUTS, REPORT, write_cuts
from dualmode.data.render import Utterance, to_int16, write_flac
from dualmode.data.synth import cut_of
from dualmode.data.usable import CONFIDENCE
from dualmode.errors import AudioError, DataError
from dualmode.plots import load_pyplot, save_plot
from dualmode.teaching.claims import claim_folder
from dualmode.teaching.doubts import TEXT, difference, doubt, said_again
from dualmode.teaching.recordings import Source, find_recordings
from dualmode.teaching.teachers import Teacher, Transcription, open_teacher
from dualmode.text import normalize

LABELS = "labels.jsonl"
PICTURE = "labels.png"

_SUMMARY = "label.json"
_TOGETHER = 64  # clips that are sorted by length, so that those of a window are similar
_IN_A_WINDOW = 8
_UNSURE_LOG_PROB = -0.6  # below it in a short window, a clip is transcribed in a whole one
_SHORTEST_S = 0.2
_MOST_DIFFERENT = 0.1  # largest share of different words if two teachers agree


@dataclass(frozen=True)
class _Clip:
    id: str
    path: Path
    speaker: str
    samples: Samples

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE_HZ


def label(
    audio: str | Path,
    out: str | Path,
    *,
    teacher: str | Path | Teacher,
    agree: str | Path | Teacher | None = None,
    min_confidence: float = 0.0,
) -> Report:
    """Transcribe ``audio`` into ``out``: a CutSet, FLAC files of 16 kHz, a report and a plot.

    Args:
        audio: a folder of sound files, a table, a CutSet, or a file of any length.
        out: folder to write.
        teacher: a folder (see :func:`open_teacher`), or a :class:`Teacher`.
        agree: a second teacher; clips on which the two differ are left out.
        min_confidence: clips with a lower confidence are left out.

    Raises:
        DataError: there are no recordings, the teacher is missing, or ``out`` contains the labels
            of another teacher.
    """
    out = Path(out).resolve()
    sources = find_recordings(Path(audio))
    settings = {"teacher": _name(teacher), "agree": _name(agree) if agree else None}
    claim_folder(out, _SUMMARY, settings)
    teachers = [_opened(teacher), *([_opened(agree)] if agree else [])]
    done = {record["recording"] for record in _records(out) if "recording" in record}
    waiting = [source for source in sources if source.id not in done]
    console = Console(stderr=True)
    shown = track(
        waiting, "Transcribing", console=console, disable=not console.is_terminal or not waiting
    )
    _end_last_line(out / LABELS)
    with (out / LABELS).open("a", encoding="utf-8") as file:
        for group in _groups(shown):
            lines = _labelled(group, teachers, out)
            file.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
            file.flush()
    return _finish(out, str(audio), {source.id for source in sources}, min_confidence)


def _groups(sources: Iterable[Source]) -> Iterator[list[tuple[Source, list[Any]]]]:
    """Groups of recordings with their clips, or with the error of reading them."""
    group: list[tuple[Source, list[Any]]] = []
    for source in sources:
        try:
            clips: list[Any] = list(source.clips())
        except AudioError as error:
            clips = [error]
        group.append((source, clips))
        if sum(len(clips) for _, clips in group) >= _TOGETHER:
            yield group
            group = []
    if group:
        yield group


def _labelled(
    group: list[tuple[Source, list[Any]]], teachers: Sequence[Teacher], out: Path
) -> list[dict[str, Any]]:
    """The lines of a group: one per clip, and one per recording that marks it as done."""
    lines: list[dict[str, Any]] = []
    clips = []
    for source, results in group:
        for result in results:
            if isinstance(result, AudioError):
                lines.append({"id": source.id, "problem": ["audio", str(result)]})
                continue
            name, samples = result
            path = out / "audio" / (re.sub(r"[^A-Za-z0-9._@/-]", "_", name) + ".flac")
            clips.append(_Clip(name, path, source.speaker, samples))
    clips.sort(key=lambda clip: (len(clip.samples), clip.id))
    audible = [clip for clip in clips if clip.seconds >= _SHORTEST_S and clip.samples.any()]
    transcribed = _transcribe(audible, teachers[0], _is_doubtful)
    others = _others(audible, transcribed, teachers[1:])
    for clip in audible:
        lines.append(_line(clip, *transcribed[clip.id], others.get(clip.id), out))
    silent = [clip for clip in clips if clip.id not in transcribed]
    lines += [{"id": clip.id, "problem": ["silence", "no sound in it"]} for clip in silent]
    return [*lines, *({"recording": source.id} for source, _ in group)]


def _transcribe(
    clips: Sequence[_Clip], teacher: Teacher, doubtful: Callable[[_Clip, Transcription], bool]
) -> dict[str, tuple[Transcription, str]]:
    """Transcription and window of each clip; doubtful clips are transcribed twice."""
    transcribed: dict[str, tuple[Transcription, str]] = {}
    for window in ("short", "whole"):
        wanted = [
            clip
            for clip in clips
            if clip.id not in transcribed or doubtful(clip, transcribed[clip.id][0])
        ]
        for at in range(0, len(wanted), _IN_A_WINDOW):
            some = wanted[at : at + _IN_A_WINDOW]
            texts = teacher.transcribe([c.samples for c in some], whole_windows=window == "whole")
            transcribed.update({c.id: (text, window) for c, text in zip(some, texts, strict=True)})
    return transcribed


def _is_doubtful(clip: _Clip, found: Transcription) -> bool:
    unsure = found.log_prob < _UNSURE_LOG_PROB
    return unsure or _is_repeated(clip, found) or doubt(found, clip.seconds) is not None


def _is_repeated(_: _Clip, found: Transcription) -> bool:
    return said_again(found.text)


def _others(
    clips: Sequence[_Clip],
    transcribed: dict[str, tuple[Transcription, str]],
    teachers: Sequence[Teacher],
) -> dict[str, Transcription]:
    """The second teacher's transcriptions of clips that are not doubtful, in short windows unless
    they say the same twice."""
    others: dict[str, Transcription] = {}
    plausible = [clip for clip in clips if doubt(transcribed[clip.id][0], clip.seconds) is None]
    for teacher in teachers:
        found = _transcribe(plausible, teacher, _is_repeated)
        others.update({name: text for name, (text, _) in found.items()})
    return others


def _line(
    clip: _Clip, transcription: Transcription, window: str, other: Transcription | None, out: Path
) -> dict[str, Any]:
    """The record of a clip; its audio is stored if it can be used."""
    problem = doubt(transcription, clip.seconds)
    if problem is None and other is not None:
        problem = _disagreement(transcription, other)
    if problem is None:
        clip.path.parent.mkdir(parents=True, exist_ok=True)
        write_flac(clip.path, to_int16(clip.samples))
    return {
        "id": clip.id,
        "path": clip.path.relative_to(out).as_posix(),
        "samples": len(clip.samples),
        "speaker": clip.speaker,
        "text": transcription.text,
        "log_prob": round(transcription.log_prob, 4),
        "no_speech": round(transcription.no_speech, 4),
        "english": round(transcription.english, 4),
        "window": window,
        **({"other": other.text} if other else {}),
        "problem": list(problem) if problem else None,
    }


def _disagreement(transcription: Transcription, other: Transcription) -> tuple[str, str] | None:
    if difference(transcription.text, other.text) <= _MOST_DIFFERENT:
        return None
    return "disagreement", f"{transcription.text!r} or {other.text!r}"


def _finish(out: Path, name: str, wanted: set[str], min_confidence: float) -> Report:
    """Write the CutSet of plausible clips, the report and the plot."""
    report, cuts = Report(name), []
    confidences: list[tuple[float, float]] = []
    for record in _records(out):
        if "recording" in record or record["id"].partition("@")[0] not in wanted | {record["id"]}:
            continue
        if record["problem"]:
            kind, why = record["problem"]
            report.leave_out(record["id"], record.get("path", record["id"]), kind, why)
            continue
        confidence = Transcription("", record["log_prob"]).confidence
        seconds = record["samples"] / SAMPLE_RATE_HZ
        confidences.append((confidence, seconds))
        if confidence < min_confidence:
            why = f"the confidence {confidence:.2f} is below {min_confidence:g}"
            report.leave_out(record["id"], record["path"], "unsure", why)
            continue
        text = normalize(record["text"], TEXT)
        path, speaker = out / record["path"], record["speaker"]
        cut = cut_of(
            Utterance(record["id"], path, speaker, record["samples"], text, ()), "labelled"
        )
        cut.supervisions[0].custom[CONFIDENCE] = round(confidence, 4)
        cuts.append(cut)
        report.keep(seconds)
    report.write(out / REPORT)
    if confidences:
        _draw(confidences, min_confidence, out / PICTURE)
    if not cuts:
        raise DataError(f"{name}: no clip could be transcribed; {out / REPORT} says why")
    write_cuts(cuts, out / CUTS)
    return report


def _records(out: Path) -> Iterator[dict[str, Any]]:
    """Records of earlier runs; an incomplete line left by a killed process is dropped."""
    path = out / LABELS
    if not path.is_file():
        return
    records: dict[str, dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        key = f"id {record['id']}" if "id" in record else f"recording {record['recording']}"
        records[key] = record
    yield from records.values()


def _end_last_line(path: Path) -> None:
    """End an incomplete line left by a killed process, so that new lines stay intact."""
    if path.is_file() and not path.read_bytes().endswith(b"\n"):
        with path.open("a", encoding="utf-8") as file:
            file.write("\n")


def _draw(confidences: list[tuple[float, float]], chosen: float, path: Path) -> None:
    """Plot the distribution of confidences, and the hours that each threshold would keep."""
    values, seconds = np.array(sorted(confidences)).T
    figure, (share, kept) = load_pyplot().subplots(1, 2, figsize=(10, 4))
    share.hist(values, bins=40, range=(0, 1), weights=seconds / 3600)
    share.set(xlabel="confidence", ylabel="hours")
    kept.plot(values, np.cumsum(seconds[::-1])[::-1] / 3600)
    kept.axvline(chosen, ls=":", color="tab:red")
    kept.set(xlabel="least confidence", ylabel="hours kept", xlim=(0, 1), ylim=(0, None))
    for axis in (share, kept):
        axis.grid(alpha=0.3)
    save_plot(figure, path, dpi=100)


def _name(teacher: str | Path | Teacher) -> str:
    known = isinstance(teacher, str | Path)
    return Path(str(teacher)).name if known else type(teacher).__name__


def _opened(teacher: str | Path | Teacher) -> Teacher:
    return open_teacher(teacher) if isinstance(teacher, str | Path) else teacher
