"""Align utterances with their phones by PocketSphinx, for pre-training on phones.

Usage:
    python -m benchmarks.align_phones CUTS OUT [--processes N]

CUTS is a CutSet (cuts.jsonl.gz, or its folder). OUT becomes a folder with the same cuts, whose
supervisions carry ``alignment["phone"]``: Lhotse's items, with the phones of the CMU dictionary.
The acoustic model and the dictionary are those of PocketSphinx's wheel. It takes 2 to 4 % of the
duration of the audio on one core, and an interrupted run continues. Utterances with a word that
is not in the dictionary, or that do not fit their text, are left out and counted.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.supervision import AlignmentItem
from lhotse.utils import fastcopy
from rich.console import Console
from rich.progress import track

from dualmode.config import TextConfig
from dualmode.data.loading import load_samples
from dualmode.data.manifests import CUTS, read_cuts
from dualmode.data.phones import ALIGNMENT
from dualmode.errors import AudioError, TextError
from dualmode.text import normalize

_FRAME_S = 0.01
_TEXT = TextConfig(digits="spell")
_KEPT = "alignments.jsonl"

Phones = list[tuple[str, int, int]]


def main() -> None:
    arguments = _arguments()
    cuts = list(read_cuts(arguments.cuts))
    arguments.out.mkdir(parents=True, exist_ok=True)
    found = _found(arguments.out / _KEPT)
    missing = [cut for cut in cuts if cut.id not in found]
    # Each call of a worker is short, so that little is lost when a run is interrupted.
    with (
        ProcessPoolExecutor(arguments.processes) as pool,
        (arguments.out / _KEPT).open("a", encoding="utf-8") as kept,
    ):
        results = pool.map(align, missing, chunksize=16)
        for cut, result in track(zip(missing, results, strict=True), "aligning", len(missing)):
            found[cut.id] = result
            kept.write("\n" + json.dumps({"id": cut.id, "result": result}))
    aligned = [_with_phones(cut, found[cut.id]) for cut in cuts if isinstance(found[cut.id], list)]
    CutSet.from_cuts(aligned).to_file(arguments.out / CUTS)
    why = Counter(found[cut.id] for cut in cuts if isinstance(found[cut.id], str))
    left_out = ", ".join(f"{kind} {count}" for kind, count in why.most_common())
    hours = sum(cut.duration for cut in aligned) / 3600
    Console().print(
        f"{len(aligned)} of {len(cuts)} utterances ({hours:.2f} h) aligned; "
        f"left out: {left_out or 'none'}"
    )


def align(cut: Cut) -> Phones | str:
    """Phones of an utterance with their first frame and number of frames of 10 ms, or why there
    are none."""
    decoder = _decoder()
    try:
        text = normalize(cut.supervisions[0].text or "", _TEXT)
        samples = load_samples(cut)
    except (TextError, AudioError) as error:
        return type(error).__name__
    words = re.findall(r"[a-z']+", text)
    if not words:
        return "no words"
    if any(decoder.lookup_word(word) is None for word in words):
        return "word without phones"
    sound = (np.clip(samples, -1, 1) * 32767).astype(np.int16).tobytes()
    try:
        # The first pass finds the words, the second their phones.
        decoder.set_align_text(" ".join(words))
        _listen(decoder, sound)
        decoder.set_alignment()
        _listen(decoder, sound)
        return [
            (phone.name, phone.start, phone.duration)
            for w in decoder.get_alignment()
            for phone in w
        ]
    except RuntimeError:
        return "no alignment"


def _listen(decoder: Any, sound: bytes) -> None:
    decoder.start_utt()
    decoder.process_raw(sound, full_utt=True)
    decoder.end_utt()


@lru_cache(maxsize=1)
def _decoder() -> Any:
    from pocketsphinx import Decoder  # of the extra [benchmarks]

    # With its later passes PocketSphinx finds no phones for a third of the utterances.
    return Decoder(
        samprate=16000,
        lm=None,
        loglevel="FATAL",
        topn=2,
        fwdflat=False,
        bestpath=False,
        backtrace=False,
    )


def _found(path: Path) -> dict[str, Phones | str]:
    """Results of an earlier run. Lines begin, not end, with a line break, so what is written after
    an incomplete one is a line of its own."""
    if not path.is_file():
        return {}
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        found[record["id"]] = record["result"]
    return found


def _with_phones(cut: Cut, phones: Phones | str) -> Cut:
    items = [
        AlignmentItem(name, round(start * _FRAME_S, 3), round(frames * _FRAME_S, 3))
        for name, start, frames in phones
    ]
    return cut.map_supervisions(partial(fastcopy, alignment={ALIGNMENT: items}))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cuts", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
