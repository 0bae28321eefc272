"""Corpora of each profile, prepared once and then reused."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.recipes.librispeech import prepare_librispeech
from rich.console import Console

from benchmarks.claim.more_voices import more_voices
from dualmode.data.manifests import CUTS, prepare_tsv, read_cuts, write_cuts
from dualmode.data.synth import synthesize
from dualmode.errors import DataError

_DEV_SPEAKERS = 8  # without a dev set, every 8th training speaker is held out for development
LIBRISPEECH = {
    "train": ("train-clean-100", "train-clean-360", "train-other-500"),
    "dev": ("dev-clean", "dev-other"),
    "test": ("test-clean", "test-other"),
}


@dataclass(frozen=True)
class Corpora:
    """CutSets of a profile; pre-training uses ``unlabelled`` in addition to ``train``."""

    train: tuple[Path, ...]
    dev: tuple[Path, ...]
    test: tuple[Path, ...]
    unlabelled: tuple[Path, ...] = ()
    noise: Path | None = None

    def changes(self, kind: str) -> tuple[str, ...]:
        """Overrides, in the syntax of ``--set``, for the recipe of a kind of training."""
        train = (*self.unlabelled, *self.train) if kind == "pretrain" else self.train
        noisy = self.noise and kind == "finetune"
        return (
            f"data.train={_listed(train)}",
            f"data.dev={_listed(self.dev)}",
            *((f"data.noise='{self.noise}'",) if noisy else ()),
        )


def _listed(folders: Iterable[Path]) -> str:
    return "[" + ", ".join(f"'{folder}'" for folder in folders) + "]"


Prepare = Callable[[Path, Path | None, Console], Corpora]


def small(out: Path, tables: Path | None, console: Console) -> Corpora:
    """The synthetic corpus with more voices in its test set, and AN4 if ``tables`` contains it."""
    folder = out / "synthetic"
    synthesize(folder)
    tested = (folder / "test", more_voices(folder, out / "synthetic-more"))
    found = Corpora((folder / "train",), (folder / "dev",), tested)
    if tables is None:
        console.print("[yellow]without --data there is no AN4, only synthetic speech[/yellow]")
        return found
    learnt, an4 = (
        _from_table(tables / f"{split}.tsv", out / f"an4-{split}", only="an4")
        for split in ("train", "test")
    )
    train, dev = _split_speakers(learnt, out)
    return Corpora((*found.train, train), (*found.dev, dev), (*found.test, an4))


def speech(out: Path, tables: Path | None, console: Console) -> Corpora:
    """CutSets of all tables: train, dev, test, unlabelled, noise."""
    if tables is None:
        raise DataError("this profile needs --data: a folder with train.tsv, dev.tsv and test.tsv")
    train, dev, test = (
        _from_table(tables / f"{split}.tsv", out / split) for split in ("train", "dev", "test")
    )
    noise, unlabelled = tables / "noise.tsv", tables / "unlabelled.tsv"
    return Corpora(
        (train,),
        (dev,),
        (test,),
        (_from_table(unlabelled, out / "unlabelled"),) if unlabelled.is_file() else (),
        _from_table(noise, out / "noise") if noise.is_file() else None,
    )


def librispeech(out: Path, folder: Path | None, console: Console) -> Corpora:
    """CutSets of an unpacked LibriSpeech; missing parts are reported."""
    if folder is None or not folder.is_dir():
        raise DataError("this profile needs --data: the folder LibriSpeech with its parts in it")
    parts = [part for listed in LIBRISPEECH.values() for part in listed]
    missing = [part for part in parts if not (folder / part).is_dir()]
    if missing:
        console.print(f"[yellow]{folder} has no {', '.join(missing)}[/yellow]")
    there = [part for part in parts if part not in missing]
    splits: dict[str, tuple[Path, ...]] = {}
    manifests = None
    for split, listed in LIBRISPEECH.items():
        splits[split] = tuple(out / part for part in listed if part in there)
        for target in splits[split]:
            if not (target / CUTS).is_file():
                manifests = manifests or prepare_librispeech(folder, None, there, out)
                found = manifests[target.name]
                cuts = CutSet.from_manifests(found["recordings"], found["supervisions"])
                _write(cuts, target, corpus=target.name)
        if not splits[split]:
            raise DataError(f"{folder} has none of {', '.join(listed)}")
    return Corpora(splits["train"], splits["dev"], splits["test"])


def _from_table(table: Path, out: Path, *, only: str | None = None) -> Path:
    """The CutSet of a table, or of one corpus in it, with FLAC copies."""
    if (out / CUTS).is_file():
        return out
    out.mkdir(parents=True, exist_ok=True)
    if only:
        table = _one_corpus(table, out / "table.tsv", only)
    noise, unlabelled = table.stem == "noise", table.stem == "unlabelled"
    prepare_tsv(table, out, allow_untranscribed=unlabelled, noise=noise, to_flac=True)
    return out


def _one_corpus(table: Path, path: Path, corpus: str) -> Path:
    """Write the lines of ``table`` of one corpus, with absolute paths."""
    if not table.is_file():
        raise DataError(f"{table}: no such table")
    with table.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        lines = [line for line in reader if line.get("corpus") == corpus]
        names = list(reader.fieldnames or ())
    if not lines:
        raise DataError(f"{table}: no line of the corpus {corpus}")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, delimiter="\t", quoting=csv.QUOTE_NONE)
        writer.writeheader()
        for line in lines:
            writer.writerow(line | {"path": str((table.parent / line["path"]).resolve())})
    return path


def _split_speakers(folder: Path, out: Path) -> tuple[Path, Path]:
    """Split the cuts by speakers into training and development sets."""
    train, dev = out / "an4-learnt", out / "an4-dev"
    if not (dev / CUTS).is_file():
        cuts = list(read_cuts(folder))
        speakers = sorted({cut.supervisions[0].speaker for cut in cuts})
        apart = set(speakers[::_DEV_SPEAKERS])
        _write((c for c in cuts if c.supervisions[0].speaker not in apart), train)
        _write((c for c in cuts if c.supervisions[0].speaker in apart), dev)
    return train, dev


def _write(cuts: Iterable[Cut], folder: Path, corpus: str | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    listed = list(cuts)
    if corpus:
        for cut in listed:
            cut.supervisions[0].custom = {"corpus": corpus}
    write_cuts(listed, folder / CUTS)
