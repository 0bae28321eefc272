"""The artifact: what is written is read back, small, and never read if it is damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from dualmode.cli import app
from dualmode.errors import ModelError
from dualmode.export.artifact import Block, Encoding, Role, quantize_rows, read_artifact
from dualmode.export.engine import engine_artifact
from dualmode.model.directory import LoadedModel

from .conftest import CORNERS

Export = Callable[..., Path]


@pytest.mark.parametrize("name", CORNERS)
@pytest.mark.parametrize("weights", ["int8", "fp32"])
def test_what_is_written_is_read_back(
    talkative: LoadedModel,
    corner: Callable[..., Any],
    exported: Export,
    name: str,
    weights: Any,
) -> None:
    artifact = engine_artifact(talkative, corner(talkative, name), weights=weights)
    read = read_artifact(exported(name, weights))
    assert read.settings.pack() == artifact.settings.pack()  # floats of 32 bits
    assert (read.pieces, read.card) == (artifact.pieces, artifact.card)
    assert read.tensors == artifact.tensors
    roles = {t.role for t in artifact.tensors}
    assert roles == set(Role) - {Role.THIRD_CONVOLUTION}


def test_only_frames_of_80_ms_need_version_2(long_framed: LoadedModel, exported: Export) -> None:
    """So that older engines still read what they can run."""
    assert exported("device", "int8").read_bytes()[8:12] == b"\1\0\0\0"
    assert read_artifact(exported("device", "int8")).settings.frame_ms == 40
    for weights in ("int8", "fp32"):
        path = exported("device", weights, 80)
        assert path.read_bytes()[8:12] == b"\2\0\0\0"
        read = read_artifact(path)
        assert read.settings.frame_ms == 80
        assert {t.role for t in read.tensors} == set(Role)
        artifact = engine_artifact(long_framed, long_framed.device_subnet, weights=weights)
        assert (read.settings.pack(), read.tensors) == (artifact.settings.pack(), artifact.tensors)


@given(seed=st.integers(0, 10**6), scale=st.floats(1e-6, 1e3))
def test_rounding_is_at_most_half_a_step(seed: int, scale: float) -> None:
    weight = np.random.default_rng(seed).standard_normal((5, 30)).astype(np.float32) * scale
    scales, integers = quantize_rows(weight)
    steps = scales.astype(np.float32)[:, None]
    assert np.abs(integers).max() <= 127
    # Under the smallest normal half, a scale has few bits left.
    slack = 1.001 if scale > 1e-2 else 1.2
    assert (np.abs(integers * steps - weight) <= steps * slack / 2).all()


def test_sparse_matrices_store_kept_blocks_and_bits(exported: Export) -> None:
    sparse, dense = (
        {(t.role, t.layer): t for t in read_artifact(exported(name, "int8")).tensors}
        for name in ("device", "dense streaming")
    )
    expand = sparse[Role.FIRST_EXPAND, 0]
    assert (expand.encoding, expand.block) == (Encoding.MATRIX_I8, Block.B8X1)
    assert len(expand.payload) < len(dense[Role.FIRST_EXPAND, 0].payload)


def test_a_damaged_file_is_refused(exported: Export, tmp_path: Path) -> None:
    whole = exported("device", "int8").read_bytes()
    path = tmp_path / "damaged.dual"
    for data, complaint in (
        (whole[:-1], "truncated or damaged"),
        (whole[:500] + b"\x99" + whole[501:], "damaged"),
        (b"RIFF" + whole[4:], "is not an artifact"),
        (whole[:8] + b"\x09" + whole[9:], "version 9"),
        (b"", "is not an artifact"),
    ):
        path.write_bytes(data)
        with pytest.raises(ModelError, match=complaint):
            read_artifact(path)
    with pytest.raises(ModelError, match="cannot be read"):
        read_artifact(tmp_path / "missing.dual")


def test_the_commands(talkative_model: Path, tmp_path: Path) -> None:
    out, figures = tmp_path / "model.dual", tmp_path / "figures.json"
    runner = CliRunner()
    options = ["--chunk-ms", "320", "--lookahead-ms", "0", "--left-ms", "80"]
    done = runner.invoke(app, ["export", "engine", str(talkative_model), str(out), *options])
    assert done.exit_code == 0, done.output
    assert f"{out.stat().st_size:,} bytes" in done.output
    settings = read_artifact(out).settings
    assert (settings.chunk, settings.lookahead, settings.left) == (8, 0, 2)
    done = runner.invoke(app, ["inspect", str(out), "--json", str(figures)])
    assert done.exit_code == 0, done.output
    tree = json.loads(figures.read_text(encoding="utf-8"))
    assert tree["bytes"] == out.stat().st_size
    assert tree["settings"]["chunk"] == 8
