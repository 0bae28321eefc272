"""The facade: names, files, long audio, errors, and streams that equal transcriptions."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

import dualmode
from dualmode.audio import to_mono_16khz
from dualmode.decoding.pieces import cut_pieces
from dualmode.decoding.transcript import Transcript
from dualmode.errors import AudioError, ModelError, SubnetError
from dualmode.model.subnet import ChunkedContext, Subnet
from dualmode.recognizer import Recognizer, load
from dualmode.runtime.pytorch import TorchRuntime
from dualmode.text import Tokens

pytestmark = pytest.mark.usefixtures("one_thread")

Samples = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def rec(talkative_model: Path) -> Recognizer:
    return load(talkative_model)


@pytest.fixture
def wav(tmp_path: Path, babble: Callable[..., Samples]) -> Callable[..., Path]:
    def write(seconds: float, seed: int = 0) -> Path:
        path = tmp_path / f"{seconds}-{seed}.wav"
        soundfile.write(path, babble(seconds, seed), 16000, subtype="FLOAT")
        return path

    return write


def shape(transcript: Transcript) -> list[tuple[int, int]]:
    return [(t.id, t.frame) for t in transcript.tokens]


@pytest.mark.parametrize("search", ["greedy", "beam"])
def test_device_streamed_equals_device_transcribed(rec, babble, wav, search) -> None:
    path = wav(5.0)
    whole = rec.transcribe(path, subnet="device", search=search)
    assert len(whole.words) > 3, "the tiny model must speak for this test to mean anything"
    stream = rec.stream(subnet="device", search=search, endpointing=None)
    samples = babble(5.0)
    for start in range(0, len(samples), 1700):
        stream.push(samples[start : start + 1700])
    assert shape(stream.finish()) == shape(whole)
    (side_by_side, _) = rec.stream_batch([samples, babble(2.0, 1)], "device", search)
    assert shape(side_by_side) == shape(whole)


def test_a_batch_equals_one_by_one_and_errors_stay_with_their_file(rec, wav, tmp_path) -> None:
    files = [wav(3.0, 1), tmp_path / "missing.wav", wav(1.0, 2), wav(0.05, 3), wav(4.0, 4)]
    for subnet in ("server", "device"):
        found = rec.transcribe_batch(files, subnet)
        assert isinstance(found[1], AudioError)
        assert "missing.wav" in str(found[1])
        for file, result in zip(files, found, strict=True):
            if not isinstance(result, AudioError):
                assert shape(result) == shape(rec.transcribe(file, subnet))
        with pytest.raises(AudioError, match="no such file"):
            rec.transcribe(files[1], subnet)


def test_silence_and_almost_nothing_are_transcripts_not_errors(rec, babble) -> None:
    for subnet in ("server", "device"):
        for samples in (np.zeros(16000, np.float32), np.zeros(800, np.float32), babble(0.0)):
            result = rec.transcribe(samples, subnet)
            assert result.seconds == len(samples) / 16000


@pytest.mark.parametrize(
    "samples", [np.zeros((2, 9), np.float32), np.zeros(9, np.int64), np.full(9, np.nan, np.float32)]
)
def test_bad_samples_are_audio_errors(rec, samples) -> None:
    with pytest.raises(AudioError):
        rec.transcribe(samples)


def test_long_audio_is_recognised_in_pieces_with_times_of_the_whole(rec, wav, monkeypatch) -> None:
    heard: list[int] = []
    encode = TorchRuntime.encode

    def spy(self, mels, lengths):
        heard.append(mels.shape[0] * mels.shape[1])
        return encode(self, mels, lengths)

    monkeypatch.setattr(TorchRuntime, "encode", spy)
    path = wav(200.0, 5)
    server = rec.transcribe(path, "server")
    assert max(heard) <= 12_100, "at most 120 s at once"
    assert sum(heard) >= 19_900
    frames = [token.frame for token in server.tokens]
    assert frames == sorted(frames)
    assert 180 < frames[-1] * 0.04 < 200
    heard.clear()
    device = rec.transcribe(path, "device")
    assert not heard, "long audio is streamed"
    assert device.words[-1].end_s <= 200.0
    assert 180 < device.tokens[-1].frame * 0.04 < 200.5


def test_pieces_of_long_frames_have_times_of_the_whole(talkative_80ms: Path, babble) -> None:
    rec, samples = load(talkative_80ms), babble(45.0, 6)
    found = rec.transcribe(samples, "server")
    frames = [token.frame for token in found.tokens]
    assert frames == sorted(frames)
    assert 40 < frames[-1] * 0.08 < 45
    assert found.words[-1].end_s == pytest.approx((frames[-1] + 1) * 0.08)
    first, second = cut_pieces([samples], 30.0, rec.framing)
    alone = rec.transcribe(second.samples, "server").tokens
    assert [token.frame + second.start for token in alone] == frames[-len(alone) :]
    assert second.start * 1280 == len(first.samples)


def test_long_device_audio_equals_one_forward(rec, babble) -> None:
    samples = babble(70.0, 6)
    (at_once,) = rec.stream_batch([samples], "device")
    assert shape(rec.transcribe(samples, "device")) == shape(at_once)


def test_any_context_and_trained_sparsity_can_be_asked_for(rec, babble) -> None:
    samples = babble(2.0)
    for subnet in (
        Subnet(ChunkedContext(2, 4, 0), 0.0),
        Subnet(ChunkedContext(8, 16, 3), 0.5),
        Subnet(rec.subnet("server").context, 0.5),
    ):
        assert rec.transcribe(samples, subnet).seconds == 2.0
    with pytest.raises(SubnetError, match=r"0\.5"):
        rec.transcribe(samples, Subnet(ChunkedContext(2, 4, 0), 0.7))
    with pytest.raises(SubnetError, match="server or device"):
        rec.transcribe(samples, "laptop")
    with pytest.raises(SubnetError, match="stream with device"):
        rec.stream("server")
    with pytest.raises(ValueError, match="greedy or beam"):
        rec.transcribe(samples, search="best")


def test_a_missing_model_says_what_is_missing(tmp_path) -> None:
    with pytest.raises(ModelError, match=r"config\.yaml"):
        load(tmp_path)


def test_import_is_lazy_and_the_facade_complete(talkative_model: Path) -> None:
    code = (
        "import sys, dualmode\n"
        "assert not {'torch', 'lhotse', 'numpy'} & set(sys.modules), 'heavy import'\n"
        "from dualmode import Recognizer, Transcript, load\n"
        "assert isinstance(load(sys.argv[1]), Recognizer)\n"
        "assert set(dir(dualmode)) >= {'load', 'Recognizer', 'Transcript', '__version__'}\n"
    )
    subprocess.run([sys.executable, "-c", code, str(talkative_model)], check=True)
    with pytest.raises(AttributeError, match="no attribute 'transcribe'"):
        _ = dualmode.transcribe


def test_tokens_are_those_of_the_directory(rec, talkative_model: Path) -> None:
    assert rec.tokens.pieces == Tokens.load(talkative_model).pieces


def test_int16_and_other_rates_are_understood(rec, babble) -> None:
    samples = babble(3.0, 2)
    integers = (samples * 32768).clip(-32768, 32767).astype(np.int16)
    expected = rec.transcribe(integers.astype(np.float32) / 32768)
    assert shape(rec.transcribe(integers)) == shape(expected)
    slow = np.repeat(samples, 2)[: 2 * 40_000]
    whole = rec.transcribe(slow, "device", sample_rate_hz=32_000)
    assert whole.seconds == pytest.approx(2.5)
    assert shape(rec.transcribe(to_mono_16khz(slow, 32_000), "device")) == shape(whole)
    stream = rec.stream(endpointing=None, sample_rate_hz=32_000)
    for start in range(0, len(slow), 3333):
        stream.push(slow[start : start + 3333])
    assert stream.seconds == pytest.approx(2.5)
    assert shape(stream.finish()) == shape(whole)
    with pytest.raises(AudioError, match="sample rate"):
        rec.transcribe(samples, sample_rate_hz=0)


@pytest.mark.parametrize("subnet", ["server", "device"])
def test_progress_ends_with_all_audio(rec, wav, subnet, capsys) -> None:
    calls: list[tuple[float, float]] = []
    files = [wav(40.0, 1), wav(1.0, 2)]
    rec.transcribe_batch(files, subnet, progress=lambda *call: calls.append(call))
    assert calls[-1] == (pytest.approx(41.0), pytest.approx(41.0))
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert len(calls) > 2
    assert shape(rec.transcribe(files[1], subnet, progress=True)) == shape(
        rec.transcribe(files[1], subnet)
    )
    assert capsys.readouterr().out == ""


def test_everything_public_can_be_imported() -> None:
    for name in dualmode.__all__:
        assert getattr(dualmode, name) is not None


def test_keep_only_refuses_the_rest(talkative_model: Path, babble) -> None:
    whole, lean = load(talkative_model), load(talkative_model)
    lean.keep_only("device")
    samples = babble(2.0)
    assert shape(lean.transcribe(samples, "device")) == shape(whole.transcribe(samples, "device"))
    with pytest.raises(SubnetError, match="load the model again"):
        lean.transcribe(samples, "server")
