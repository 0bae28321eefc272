"""The quickstart corpus: synthesised in under a minute and determined by its seed."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from lhotse import AudioSource, MonoCut, Recording, SupervisionSegment
from lhotse.supervision import AlignmentItem

from dualmode.audio import SAMPLE_RATE_HZ
from dualmode.data.manifests import CUTS, write_cuts
from dualmode.data.parallel import map_in_processes
from dualmode.data.phones import ALIGNMENT
from dualmode.data.phrases import draw_phrase, transcript
from dualmode.data.render import VOICES, Reading, Utterance, read_aloud
from dualmode.errors import DataError
from dualmode.whole_files import remove_unfinished, replace_text

SPLITS = ("train", "dev", "test")
_SUMMARY = "synth.json"
_EDITION = {
    "edition": 3
}  # increased when phrases, voices or manifests change, so corpora are made again
_FEWEST_WORDS = 4  # there are too few shorter phrases to hold any out of training


@dataclass(frozen=True)
class SynthSettings:
    """Settings of a quickstart corpus, which determine its samples."""

    seed: int = 1
    train_hours: float = 3.0
    dev_utterances: int = 120
    test_utterances: int = 300


def synthesize(
    out: str | Path,
    *,
    seed: int = 1,
    train_hours: float = 3.0,
    dev_utterances: int = 120,
    test_utterances: int = 300,
    jobs: int | None = None,
) -> dict[str, Path]:
    """Make ``out/{train,dev,test}/cuts.jsonl.gz`` and FLAC files of 16 kHz.

    Voices and sentences of dev and test are not in train. Supervisions contain the start and
    duration of every word and of every phone, with eSpeak NG's names of phones. A finished corpus
    of the same settings in ``out`` is reused.
    ``jobs`` is the number of processes (default: one per core).

    Returns:
        The folder of each split.

    Raises:
        DataError: eSpeak NG is missing, a size is not positive, or ``out`` holds something else.
    """
    settings = SynthSettings(seed, train_hours, dev_utterances, test_utterances)
    out = Path(out).resolve()
    folders = {split: out / split for split in SPLITS}
    if _is_finished(out, settings):
        return folders
    _clear(out)
    made: dict[str, list[Utterance]] = {split: [] for split in SPLITS}
    readings = _readings(settings, folders)
    # Fresh processes, because the output of eSpeak NG depends on what it spoke before.
    spoken = map_in_processes(
        read_aloud, readings, title="Synthesising voices", jobs=jobs, fresh=True
    )
    for reading, utterances in zip(readings, spoken, strict=True):
        made[reading.folder.parent.name].extend(utterances)
    for split, utterances in made.items():
        write_cuts(map(cut_of, utterances), folders[split] / CUTS)
    replace_text(out / _SUMMARY, json.dumps(_summary(settings, made), indent=1) + "\n")
    return folders


def _readings(settings: SynthSettings, folders: dict[str, Path]) -> list[Reading]:
    """One reading per voice. Held-out phrases are drawn first, and training avoids them."""
    if min(settings.train_hours, settings.dev_utterances, settings.test_utterances) <= 0:
        raise DataError(f"every size of the quickstart corpus must be positive: {settings}")
    held_out = _held_out_phrases(settings)
    avoid = frozenset(transcript(phrase) for split in held_out.values() for phrase in split)
    readings = []
    for split, voices in VOICES.items():
        folder = folders[split] / "audio"
        folder.mkdir(parents=True)
        for number, voice in enumerate(voices):
            seed = (settings.seed, SPLITS.index(split), number)
            if split == "train":
                seconds = settings.train_hours * 3600 / len(voices)
                readings.append(Reading(voice, folder, seed, seconds, avoid))
            else:
                phrases = tuple(held_out[split][number :: len(voices)])
                readings.append(Reading(voice, folder, seed, float("inf"), phrases=phrases))
    return readings


def _held_out_phrases(settings: SynthSettings) -> dict[str, list[str]]:
    rng = np.random.default_rng((settings.seed, len(SPLITS)))
    wanted = {"dev": settings.dev_utterances, "test": settings.test_utterances}
    phrases: dict[str, None] = {}
    while len(phrases) < sum(wanted.values()):
        phrase = draw_phrase(rng)
        if len(phrase.split()) >= _FEWEST_WORDS:
            phrases[phrase] = None
    drawn = list(phrases)
    return {"dev": drawn[: wanted["dev"]], "test": drawn[wanted["dev"] :]}


def cut_of(utterance: Utterance, corpus: str = "synth") -> MonoCut:
    """A cut of a whole synthesised file, with the times of its words."""
    duration = utterance.samples / SAMPLE_RATE_HZ
    times = {"word": utterance.words, ALIGNMENT: utterance.phones}
    alignment = {
        kind: [AlignmentItem(name, round(start, 4), round(length, 4)) for name, start, length in of]
        for kind, of in times.items()
        if of
    }
    return MonoCut(
        id=utterance.id,
        start=0.0,
        duration=duration,
        channel=0,
        supervisions=[
            SupervisionSegment(
                id=utterance.id,
                recording_id=utterance.id,
                start=0.0,
                duration=duration,
                text=utterance.text,
                language="English",
                speaker=utterance.speaker,
                custom={"corpus": corpus},
                alignment=alignment or None,
            )
        ],
        recording=Recording(
            id=utterance.id,
            sources=[AudioSource("file", [0], str(utterance.path))],
            sampling_rate=SAMPLE_RATE_HZ,
            num_samples=utterance.samples,
            duration=duration,
        ),
    )


def _summary(settings: SynthSettings, made: dict[str, list[Utterance]]) -> dict[str, object]:
    return {
        "settings": asdict(settings) | _EDITION,
        "splits": {
            split: {
                "utterances": len(utterances),
                "hours": round(sum(u.samples for u in utterances) / SAMPLE_RATE_HZ / 3600, 3),
                "voices": len({u.speaker for u in utterances}),
                "words": len({word for u in utterances for word in u.text.split()}),
                "sentences": len({u.text for u in utterances}),
            }
            for split, utterances in made.items()
        },
    }


def _is_finished(out: Path, settings: SynthSettings) -> bool:
    try:
        summary = json.loads((out / _SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(summary.get("settings") == asdict(settings) | _EDITION)


def _clear(out: Path) -> None:
    """Remove an older or unfinished corpus, and nothing else."""
    out.mkdir(parents=True, exist_ok=True)
    for folder in (out, *(out / split for split in SPLITS)):
        remove_unfinished(folder)
    own = {out / _SUMMARY} | {out / split for split in SPLITS}
    for split in SPLITS:
        own |= {out / split / name for name in ("audio", CUTS)}
    present = [*out.iterdir(), *(path for split in SPLITS for path in (out / split).glob("*"))]
    strangers = sorted(set(present) - own)
    if strangers:
        raise DataError(
            f"{strangers[0]} is not part of a quickstart corpus: choose an empty or new folder"
        )
    (out / _SUMMARY).unlink(missing_ok=True)
    for split in SPLITS:
        shutil.rmtree(out / split, ignore_errors=True)
