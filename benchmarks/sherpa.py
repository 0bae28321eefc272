"""Compare an export in stock sherpa-onnx with its model.

    python -m benchmarks.sherpa MODEL EXPORT CUTS [CUTS ...]

MODEL is a model directory, EXPORT its export by `dualmode export sherpa-onnx MODEL EXPORT --int8`.
The benchmark compares tokens of every file, in batches of one to four files, and word error rates
of torch, of the export, and of its int8 variant. sherpa-onnx emits at most one token per frame;
files in which torch emits several are counted separately.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from itertools import cycle
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import sherpa_onnx

from dualmode.audio import SAMPLE_RATE_HZ
from dualmode.data.loading import load_samples
from dualmode.data.manifests import read_cuts
from dualmode.decoding.stream import TAIL_S
from dualmode.decoding.transcript import Transcript
from dualmode.export.sherpa_onnx import needed_tail_s
from dualmode.recognizer import Recognizer
from dualmode.text import UNKNOWN_ID, WORD_START

Recognised = tuple[list[str], str]


def open_export(folder: Path, kind: Any, suffix: str) -> Any:
    """Open an export in sherpa-onnx."""
    return kind.from_transducer(
        encoder=str(folder / f"encoder{suffix}.onnx"),
        decoder=str(folder / "decoder.onnx"),
        joiner=str(folder / f"joiner{suffix}.onnx"),
        tokens=str(folder / "tokens.txt"),
        num_threads=1,
    )


def offline(recognizer: Any, batch: list[np.ndarray]) -> list[Recognised]:
    """Tokens and text of whole recordings, decoded as a batch."""
    streams = [recognizer.create_stream() for _ in batch]
    for stream, samples in zip(streams, batch, strict=True):
        stream.accept_waveform(SAMPLE_RATE_HZ, samples)
    recognizer.decode_streams(streams)
    return [(list(stream.result.tokens), stream.result.text) for stream in streams]


def online(recognizer: Any, batch: list[np.ndarray], tail_s: float) -> list[Recognised]:
    """Tokens and text of streams with a silent tail, decoded as a batch."""
    streams = [recognizer.create_stream() for _ in batch]
    for stream, samples in zip(streams, batch, strict=True):
        stream.accept_waveform(SAMPLE_RATE_HZ, np.concatenate([samples, silence(tail_s)]))
        stream.input_finished()
    while ready := [stream for stream in streams if recognizer.is_ready(stream)]:
        recognizer.decode_streams(ready)
    return [(recognizer.tokens(s), recognizer.get_result(s)) for s in streams]


def streamed(recognizer: Recognizer, samples: np.ndarray, tail_s: float) -> Any:
    """Stream the same samples and tail with torch."""
    session = recognizer.stream("device", endpointing=None)
    session.push(np.concatenate([samples, silence(tail_s - TAIL_S)]))
    return session.finish()


def silence(seconds: float) -> np.ndarray:
    """Zero samples."""
    return np.zeros(round(seconds * SAMPLE_RATE_HZ), np.float32)


def main() -> None:
    """Run the comparison and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("export", type=Path)
    parser.add_argument("cuts", type=Path, nargs="+")
    parser.add_argument("--most", type=int, default=100, help="files of each CutSet")
    options = parser.parse_args()

    recognizer = Recognizer.load(options.model)
    context: Any = recognizer.subnet("device").context
    tail_s = needed_tail_s(context, recognizer.framing)
    cuts = [cut for path in options.cuts for cut in list(read_cuts(path))[: options.most]]
    names = {"server": sherpa_onnx.OfflineRecognizer, "device": sherpa_onnx.OnlineRecognizer}
    peers = {
        (name, suffix): open_export(options.export / name, kind, suffix)
        for name, kind in names.items()
        for suffix in ("", ".int8")
    }
    count: Counter[tuple[str, str]] = Counter()
    texts: dict[str, list[str]] = defaultdict(list)
    position = 0
    for size in cycle((1, 2, 3, 4)):
        batch = cuts[position : position + size]
        if not batch:
            break
        position += size
        audio = [load_samples(cut) for cut in batch]
        texts["said"] += [cut.supervisions[0].text.lower() for cut in batch]
        for name in names:
            if name == "server":
                results = recognizer.transcribe_batch(audio, name)
                ours = [one for one in results if isinstance(one, Transcript)]
                found = {s: offline(peers[name, s], audio) for s in ("", ".int8")}
            else:
                ours = [streamed(recognizer, samples, tail_s) for samples in audio]
                found = {s: online(peers[name, s], audio, tail_s) for s in ("", ".int8")}
            for mine, (tokens, _) in zip(ours, found[""], strict=True):
                count[name, compare(recognizer, mine, tokens)] += 1
            texts[f"{name}, torch"] += [mine.text for mine in ours]
            for suffix, outputs in found.items():
                label = f"{name}, sherpa-onnx{suffix.replace('.', ' ')}"
                texts[label] += [text.strip().lower() for _, text in outputs]
    said = texts.pop("said")
    print(f"{len(said)} files, tail {tail_s:g} s")
    for (name, result), files in sorted(count.items()):
        print(f"{name}: {result}: {files}")
    for label, hypotheses in texts.items():
        print(f"WER {label}: {jiwer.wer(said, hypotheses):.2%}")


def compare(recognizer: Recognizer, transcript: Any, tokens: list[str]) -> str:
    """Compare the tokens of two recognisers, apart from several tokens in a frame."""
    spoken = [token for token in transcript.tokens if token.id > UNKNOWN_ID]
    pieces = [recognizer.tokens.pieces[token.id].replace(WORD_START, " ") for token in spoken]
    if pieces == tokens:
        return "equal"
    frames = [token.frame for token in transcript.tokens]
    return "several tokens in a frame" if len(set(frames)) < len(frames) else "different"


if __name__ == "__main__":
    main()
