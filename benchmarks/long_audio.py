"""Long recordings: memory and time for an hour, and word errors by the length of recordings.

    python -m benchmarks.long_audio MODEL CUTS
    python -m benchmarks.long_audio MODEL CUTS --joined 30 300

The first command joins the files of CUTS, with half a second of silence between them, to recordings
of six minutes and of an hour, and transcribes each in a separate process.

The second command joins them, with pauses of 0.3 s, to recordings of about 30 and 300 s, and
compares the word errors with those of the same files one at a time. For server, a recording is
divided into pieces of at most ``data.max_seconds`` of its training; device streams it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import jiwer
import numpy as np
import soundfile
from lhotse.cut import Cut
from rich.console import Console
from rich.table import Table

from dualmode.audio import SAMPLE_RATE_HZ, Samples
from dualmode.data.loading import load_samples
from dualmode.data.manifests import read_cuts
from dualmode.evaluation.wer import ErrorCounts, word_errors
from dualmode.recognizer import Recognizer, load

RECOGNISERS = ("server", "device")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("cuts", type=Path)
    parser.add_argument("--joined", type=float, nargs="+", metavar="SECONDS")
    parser.add_argument("--pause-s", type=float, default=0.3, help="pause between joined files")
    arguments = parser.parse_args()
    if arguments.joined:
        found = compare_lengths(
            load(arguments.model),
            list(read_cuts(arguments.cuts)),
            arguments.joined,
            arguments.pause_s,
        )
    else:
        found = measure_hour(arguments.model, arguments.cuts)
    Console().print(found)


def measure_hour(model: Path, cuts: Path) -> Table:
    """Peak memory, time and errors of recordings of six minutes and of an hour."""
    table = Table("recogniser", "audio (min)", "peak memory (MB)", "seconds", "WER %")
    with tempfile.TemporaryDirectory() as folder:
        for minutes in (6, 60):
            path = Path(folder) / f"{minutes}.flac"
            said = write_recording(path, cuts, 60.0 * minutes)
            for name in RECOGNISERS:
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    memory, seconds, text = pool.apply(measure, (model, path, name))
                rate = f"{100 * jiwer.wer(said, text):.2f}"
                table.add_row(name, str(minutes), f"{memory:.0f}", f"{seconds:.0f}", rate)
    return table


def write_recording(path: Path, cuts: Path, seconds: float) -> str:
    """Write utterances one after the other, repeating them if necessary; returns their text."""
    sources = list(read_cuts(cuts))
    pause = np.zeros(SAMPLE_RATE_HZ // 2, dtype=np.float32)
    written, said = 0, []
    with soundfile.SoundFile(path, "w", SAMPLE_RATE_HZ, 1) as file:
        while written < seconds * SAMPLE_RATE_HZ:
            for cut in sources:
                samples = np.concatenate([load_samples(cut), pause])
                file.write(samples)
                written += len(samples)
                said.append(cut.supervisions[0].text)
                if written >= seconds * SAMPLE_RATE_HZ:
                    break
    return " ".join(said)


def measure(model: Path, path: Path, name: str) -> tuple[float, float, str]:
    """Peak memory in MB, seconds and text of one transcription."""
    import torch

    import dualmode

    torch.set_num_threads(1)
    began = time.perf_counter()
    transcript = dualmode.load(model).transcribe(path, subnet=name)
    seconds = time.perf_counter() - began
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak_kb / 1024, seconds, transcript.text


def compare_lengths(
    recognizer: Recognizer, cuts: Sequence[Cut], lengths: Sequence[float], pause_s: float
) -> Table:
    """Word errors of single utterances, and joined to recordings of ``lengths`` seconds."""
    table = Table("recogniser", "recordings", "longest (s)", "WER %", "difference", "ins, del, sub")
    utterances = [(load_samples(cut), cut.supervisions[0].text or "") for cut in cuts]
    for name in RECOGNISERS:
        alone = count(recognizer, name, utterances)
        for length in (0.0, *lengths):
            joined = list(join(utterances, length, pause_s))
            counts = count(recognizer, name, joined) if length else alone
            longest = max(len(samples) for samples, _ in joined) / SAMPLE_RATE_HZ
            kinds = (counts.insertions, counts.deletions, counts.substitutions)
            table.add_row(
                name,
                str(len(joined)),
                f"{longest:.0f}",
                f"{100 * counts.rate:.1f}",
                f"{100 * (counts.rate - alone.rate):+.1f}",
                ", ".join(str(kind.sum()) for kind in kinds),
            )
    return table


def join(
    utterances: Sequence[tuple[Samples, str]], seconds: float, pause_s: float
) -> Iterator[tuple[Samples, str]]:
    """Join utterances in order, with pauses, to recordings of at least ``seconds``; each is used
    once."""
    pause = np.zeros(round(pause_s * SAMPLE_RATE_HZ), dtype=np.float32)
    parts: list[Samples] = []
    texts: list[str] = []
    for samples, text in utterances:
        parts += [pause, samples] if parts else [samples]
        texts.append(text)
        if sum(map(len, parts)) >= seconds * SAMPLE_RATE_HZ:
            yield np.concatenate(parts), " ".join(texts)
            parts, texts = [], []
    if parts:
        yield np.concatenate(parts), " ".join(texts)


def count(
    recognizer: Recognizer, name: str, recordings: Sequence[tuple[Samples, str]]
) -> ErrorCounts:
    """Count word errors: server in pieces, device as a stream with endpoints at pauses."""
    texts = []
    for samples, _ in recordings:
        if name == "server":
            texts.append(recognizer.transcribe(samples, name).text)
        else:
            stream = recognizer.stream(name)
            stream.push(samples)
            texts.append(stream.finish().text)
    return word_errors([text for _, text in recordings], texts)


if __name__ == "__main__":
    main()
