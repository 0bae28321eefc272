"""An encoder that learns phones, and a recogniser that begins from it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.supervision import AlignmentItem
from lhotse.utils import fastcopy

from dualmode.training.journal import LOG, read_log
from dualmode.training.loop import FOLDER

from .test_adapt import run


def _aligned(cut: Cut) -> Cut:
    """The cut with a phone every 0.1 s, in the order of the alphabet."""
    count = int(cut.duration / 0.1)
    items = [AlignmentItem("BDFGKLMN"[i % 8], round(0.1 * i, 3), 0.1) for i in range(count)]
    return cut.map_supervisions(lambda one: fastcopy(one, alignment={"phone": items}))


@pytest.fixture
def phones(tiny_corpus: Path, tmp_path: Path) -> Path:
    for part in ("train", "dev"):
        cuts = CutSet.from_file(tiny_corpus / part / "cuts.jsonl.gz")
        (tmp_path / part).mkdir()
        kept = [_aligned(cut) for cut in cuts]
        # One utterance has no phones and is left out.
        unaligned = kept[0].map_supervisions(lambda one: fastcopy(one, alignment=None))
        CutSet.from_cuts([unaligned, *kept[1:]]).to_file(tmp_path / part / "cuts.jsonl.gz")
    return tmp_path


def test_phones_then_words(tiny_recipe: Path, phones: Path, tmp_path: Path) -> None:
    tree = yaml.safe_load(tiny_recipe.read_text(encoding="utf-8"))
    tree["training"] |= {"steps": 3, "processes": 1, "checkpoint_every_steps": 2}
    tree["data"] |= {"workers": 0, "join_probability": 0.5}
    (tmp_path / "words.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    tree["data"] |= {"train": [str(phones / "train")], "dev": [str(phones / "dev")]}
    tree["training"]["objective"] = "pretrain"
    tree["pretraining"] = {"objective": "phones", "phones": list("BDFGKLMN")}
    (tmp_path / "phones.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    encoder, model = tmp_path / "encoder", tmp_path / "model"
    said = run("pretrain", tmp_path / "phones.yaml", "--out", encoder)
    assert "no phones 1" in said
    assert "right phones" in said
    assert "8 phones" in (encoder / "README.md").read_text(encoding="utf-8")
    assert (encoder / FOLDER / "training.png").stat().st_size > 10_000
    last = read_log(encoder / FOLDER / LOG)[-1]
    assert {"dev/server/accuracy", "dev/device/cross_entropy"} <= set(last)
    run("train", tmp_path / "words.yaml", "--out", model, "--init", encoder)
    assert (model / "tokens.model").is_file()
