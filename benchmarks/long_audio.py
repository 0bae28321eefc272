"""Long recordings, six minutes and an hour: memory, and errors where nothing parts utterances.

    python -m benchmarks.long_audio MODEL CUTS

Joins the files of CUTS, with half a second of silence between them, into recordings of six
minutes and of an hour, and transcribes each in a process of its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import jiwer
import numpy as np
import soundfile
from rich.console import Console
from rich.table import Table

from dualmode.audio import SAMPLE_RATE_HZ
from dualmode.data.loading import load_samples
from dualmode.data.manifests import read_cuts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("cuts", type=Path)
    arguments = parser.parse_args()
    table = Table("recogniser", "audio (min)", "peak memory (MB)", "seconds", "WER %")
    with tempfile.TemporaryDirectory() as folder:
        for minutes in (6, 60):
            path = Path(folder) / f"{minutes}.flac"
            said = write_recording(path, arguments.cuts, 60.0 * minutes)
            for name in ("server", "device"):
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    memory, seconds, heard = pool.apply(measure, (arguments.model, path, name))
                rate = f"{100 * jiwer.wer(said, heard):.2f}"
                table.add_row(name, str(minutes), f"{memory:.0f}", f"{seconds:.0f}", rate)
    Console().print(table)


def write_recording(path: Path, cuts: Path, seconds: float) -> str:
    """Write utterances one after the other, from the first again when they run out; their text."""
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


if __name__ == "__main__":
    main()
