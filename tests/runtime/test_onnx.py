"""The runtime over an export gives what torch gives of the model directory, without torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

pytest.importorskip("onnxruntime", reason="needs the extra [onnx]")
pytest.importorskip("onnxscript", reason="needs the extra [onnx]")

from dualmode.errors import ModelError, SubnetError
from dualmode.export.sherpa_onnx import export_sherpa_onnx
from dualmode.model.directory import load_model
from dualmode.model.subnet import SERVER, ChunkedContext, Subnet
from dualmode.recognizer import Recognizer, load
from dualmode.runtime import load_runtime

pytestmark = pytest.mark.usefixtures("one_thread")

Babble = Callable[..., npt.NDArray[np.float32]]


@pytest.fixture(scope="module")
def exported(talkative_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Server, and device with chunks that the recipe does not have."""
    out = tmp_path_factory.mktemp("export")
    subnets = {"device": Subnet(ChunkedContext(3, 6, 1), 0.5), "server": SERVER}
    export_sherpa_onnx(load_model(talkative_model), out, subnets)
    return out


@pytest.fixture(scope="module")
def pair(exported: Path, talkative_model: Path) -> tuple[Recognizer, Recognizer]:
    return load(exported), load(talkative_model)


def test_device_is_what_was_exported(pair: tuple[Recognizer, Recognizer]) -> None:
    assert pair[0].subnet("device") == Subnet(ChunkedContext(3, 6, 1), 0.5)
    for missing in (Subnet(ChunkedContext(4, 8, 2), 0.5), Subnet(ChunkedContext(3, 6, 1))):
        with pytest.raises(SubnetError, match="the export does not contain"):
            pair[0].subnet(missing)


@pytest.mark.parametrize("name", ["server", "device"])
@pytest.mark.parametrize("search", ["greedy", "beam"])
def test_tokens_are_torchs(
    pair: tuple[Recognizer, Recognizer], babble: Babble, name: str, search: str
) -> None:
    onnx, torch = pair
    subnet = onnx.subnet(name)
    audios = [babble(seconds, seed) for seed, seconds in enumerate((2.0, 0.31, 3.3))]
    ours = onnx.transcribe_batch(audios, subnet, search)
    theirs = torch.transcribe_batch(audios, subnet, search)
    for mine, other in zip(ours, theirs, strict=True):
        assert [(t.id, t.frame) for t in mine.tokens] == [(t.id, t.frame) for t in other.tokens]
        np.testing.assert_allclose(
            [t.log_prob for t in mine.tokens], [t.log_prob for t in other.tokens], atol=1e-3
        )
    assert sum(len(transcript.tokens) for transcript in ours) > 10


def test_streams_are_torchs(pair: tuple[Recognizer, Recognizer], babble: Babble) -> None:
    """Streams of different lengths in one group, each to its last partial chunk."""
    onnx, torch = pair
    subnet = onnx.subnet("device")
    audios = [babble(seconds, seed) for seed, seconds in enumerate((1.0, 2.345, 1.7, 0.02))]
    ours = onnx.stream_batch(audios, subnet)
    assert [t.text for t in ours] == [t.text for t in torch.stream_batch(audios, subnet)]
    session = onnx.stream(subnet, endpointing=None)
    for start in range(0, len(audios[1]), 777):
        session.push(audios[1][start : start + 777])
    assert session.finish().tokens == ours[1].tokens


def test_transcribing_needs_no_torch(exported: Path, babble: Babble, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", babble(2.0), 16000)
    script = f"""
import sys, dualmode
recognizer = dualmode.load({str(exported)!r})
assert recognizer.transcribe({str(tmp_path / "a.wav")!r}, subnet="device").text
assert recognizer.transcribe({str(tmp_path / "a.wav")!r}).text
assert "torch" not in sys.modules, "torch was imported"
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_is_no_export_is_said(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not an export"):
        load_runtime(tmp_path, "onnx")
    with pytest.raises(ModelError, match="on the CPU"):
        load_runtime(exported, "onnx", "cuda")
    (tmp_path / "server").mkdir()
    for name in ("config.yaml", "tokens.model"):
        (tmp_path / name).write_bytes((exported / name).read_bytes())
    with pytest.raises(ModelError, match="neither device nor server"):
        load_runtime(tmp_path, "onnx")
    (tmp_path / "server" / "encoder.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_runtime(tmp_path, "onnx")
