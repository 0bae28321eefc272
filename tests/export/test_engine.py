"""The engine computes what torch computes: features, frames, tokens, words, segments."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dualmode.decoding.stream import Endpointing
from dualmode.errors import SubnetError
from dualmode.features import fbank
from dualmode.model.directory import LoadedModel
from dualmode.model.subnet import SERVER
from dualmode.recognizer import Recognizer, load

from .conftest import CORNERS

Samples = npt.NDArray[np.float32]
Export = Callable[..., Path]


@pytest.fixture(scope="module")
def recognizer(talkative_model: Path) -> Recognizer:
    return Recognizer.load(talkative_model, "torch")


@pytest.fixture(scope="module")
def recognizers(recognizer: Recognizer, talkative_80ms: Path) -> dict[int, Recognizer]:
    """By the length of a frame."""
    return {40: recognizer, 80: Recognizer.load(talkative_80ms, "torch")}


@pytest.fixture(scope="module")
def audio(babble: Callable[..., Samples]) -> Samples:
    return babble(9.3, 5)


def cuts_of(samples: Samples, seed: int) -> list[Samples]:
    """Pieces of random lengths, some empty, that join to the samples."""
    rng = np.random.default_rng(seed)
    at = np.sort(rng.integers(0, len(samples) + 1, size=rng.integers(1, 30)))
    return np.split(samples, at)


def sounds(babble: Callable[..., Samples]) -> dict[str, Samples]:
    rng = np.random.default_rng(1)
    return {
        "babble": babble(3.0, 1),
        "silence": np.zeros(8000, np.float32),
        "noise": (rng.standard_normal(16000) * 0.1).astype(np.float32),
        "clipping": np.clip(babble(1.0, 2) * 50, -1, 1),
        "a click": np.eye(1, 4000, 1700, dtype=np.float32)[0],
        "one window": babble(0.025, 3),
        "less than a frame": babble(0.004, 3),
        "nothing": np.zeros(0, np.float32),
    }


def test_features_equal_kaldi_native_fbank(engine: Any, babble: Callable[..., Samples]) -> None:
    """To 1e-4 down to 30 dB below a frame's peak; under that float32 transforms disagree."""
    for name, samples in sounds(babble).items():
        features = engine.Features()
        found = [features.push(cut) for cut in cuts_of(samples, 3)] + [features.finish()]
        ours, theirs = np.concatenate(found), fbank(samples)
        assert ours.shape == theirs.shape, name
        loud = theirs > (theirs.max(axis=1, keepdims=True, initial=-16) - 7)
        assert np.abs(ours - theirs)[loud].max(initial=0) < 1e-4, name
        assert np.abs(ours - theirs).max(initial=0) < 5e-3, name


def torch_frames(loaded: LoadedModel, subnet: Any, mels: Samples) -> Samples:
    with torch.no_grad():
        frames, counts = loaded.model.recognize(
            torch.from_numpy(mels)[None], torch.tensor([len(mels)]), subnet
        )
    result: Samples = frames[0, : int(counts)].numpy()
    return result


def engine_frames(engine: Any, model: Any, mels: Samples, total: int) -> Samples:
    if not model.description["streams"]:
        whole: Samples = model.handle.whole_frames(mels)
        return whole
    chunk, lookahead = model.description["chunk_frames"], model.description["lookahead_frames"]
    stride = model.description["frame_ms"] // 10
    encoder = engine.Encoder(model.handle)
    frames, at = [], 0
    for start in range(0, total, chunk):
        fresh = chunk + lookahead if start == 0 else chunk
        rows = np.ascontiguousarray(mels[at : at + stride * fresh + stride - 1])
        frames.append(encoder.step(rows, min(chunk + lookahead, total - start)))
        at += stride * fresh
    return np.concatenate(frames)


@pytest.mark.parametrize(
    ("name", "frame_ms"), [*((name, 40) for name in CORNERS), ("device", 80), ("server", 80)]
)
def test_frames_equal_those_of_torch(
    engine: Any,
    exported: Export,
    talkative: LoadedModel,
    long_framed: LoadedModel,
    corner: Callable[..., Any],
    babble: Callable[..., Samples],
    name: str,
    frame_ms: int,
) -> None:
    model = {40: talkative, 80: long_framed}[frame_ms]
    for seconds in (0.2, 2.9):
        mels = fbank(babble(seconds, 7))
        expected = torch_frames(model, corner(model, name), mels)
        for kernels in engine.kernel_names():
            exact = engine.Model(exported(name, "fp32", frame_ms), kernels)
            found = engine_frames(engine, exact, mels, len(expected))
            assert found.shape == expected.shape
            assert np.abs(found - expected).max() < 1e-4, kernels
            coarse = engine.Model(exported(name, "int8", frame_ms), kernels)
            found = engine_frames(engine, coarse, mels, len(expected))
            error = np.sqrt(np.square(found - expected).mean() / np.square(expected).mean())
            assert error < 0.1, kernels  # sixteen channels average little out


def same_words(ours: Any, theirs: Any) -> None:
    assert [w.text for w in ours] == [w.text for w in theirs]
    for field in ("start_s", "end_s"):
        assert [getattr(w, field) for w in ours] == [getattr(w, field) for w in theirs]
    np.testing.assert_allclose(
        [w.confidence for w in ours], [w.confidence for w in theirs], atol=1e-4
    )


@pytest.mark.parametrize(("beam_width", "frame_ms"), [(1, 40), (4, 40), (1, 80)])
@given(seed=st.integers(0, 10**6))
@settings(max_examples=8, deadline=None)
def test_streams_equal_those_of_torch(
    engine: Any,
    exported: Export,
    recognizers: dict[int, Recognizer],
    babble: Callable[..., Samples],
    beam_width: int,
    frame_ms: int,
    seed: int,
) -> None:
    """Partials, stable words, segments and the final transcript, whatever the cuts."""
    recognizer = recognizers[frame_ms]
    samples = babble(6.0 + seed % 4, seed)
    samples[40000:64000] = 0
    search: Any = "greedy" if beam_width == 1 else "beam"
    options = {"silence_s": 0.5, "longest_s": 2.5}
    reference = recognizer.stream("device", search, endpointing=Endpointing(**options))
    artifact = exported("device", "fp32", frame_ms)
    stream = engine.Model(artifact).stream(beam_width=beam_width, **options)
    for cut in cuts_of(samples, seed):
        expected, found = reference.push(cut), stream.push(cut)
        assert (expected is None) == (found is None)
        if expected is not None and found is not None:
            same_words(found.words, expected.words)
            assert found.stable == expected.stable
            assert [s.text for s in found.finished] == [s.text for s in expected.finished]
    ours, theirs = stream.finish(), reference.finish()
    same_words(ours.words, theirs.words)
    assert ours.seconds == theirs.seconds


@pytest.mark.parametrize("name", CORNERS)
def test_whole_recordings(
    engine: Any,
    exported: Export,
    recognizer: Recognizer,
    corner: Callable[..., Any],
    talkative: LoadedModel,
    audio: Samples,
    name: str,
) -> None:
    expected = recognizer.transcribe(audio, corner(talkative, name))
    assert expected.words, "a test that hears nothing proves nothing"
    same_words(engine.Model(exported(name, "fp32")).transcribe(audio).words, expected.words)


@pytest.mark.parametrize("frame_ms", [40, 80])
def test_long_recordings_are_cut_at_the_same_places(
    engine: Any,
    exported: Export,
    recognizers: dict[int, Recognizer],
    babble: Callable[..., Samples],
    frame_ms: int,
) -> None:
    samples = np.concatenate([babble(31.0, 1), np.zeros(3200, np.float32), babble(34.0, 2)])
    expected = recognizers[frame_ms].transcribe(samples, "server")
    found = engine.Model(exported("server", "fp32", frame_ms)).transcribe(samples)
    same_words(found.words, expected.words)


@pytest.mark.parametrize("frame_ms", [40, 80])
def test_streams_pushed_together_equal_streams_alone(
    engine: Any, exported: Export, babble: Callable[..., Samples], frame_ms: int
) -> None:
    model = engine.Model(exported("device", "int8", frame_ms))
    audios = [babble(seconds, seed) for seed, seconds in enumerate((3.0, 4.1, 2.2))]
    together, alone = [[model.stream() for _ in audios] for _ in range(2)]
    for at in range(0, 70000, 7000):
        pieces = [samples[at : at + 7000] for samples in audios]
        engine.push_all(together, pieces)
        for stream, piece in zip(alone, pieces, strict=True):
            stream.push(piece)
    for one, other in zip(together, alone, strict=True):
        assert one.finish() == other.finish()


def test_a_reset_stream_is_a_new_stream(
    engine: Any, exported: Export, audio: Samples, babble: Callable[..., Samples]
) -> None:
    model = engine.Model(exported("device", "int8"))
    stream = model.stream()
    stream.push(babble(2.0, 8))
    stream.finish()
    stream.reset()
    stream.push(audio)
    assert stream.finish() == model.transcribe(audio)


def test_what_cannot_be_is_refused(engine: Any, exported: Export, audio: Samples) -> None:
    model = engine.Model(exported("device", "int8"))
    stream = model.stream()
    stream.push(audio[:20000])
    with pytest.raises(engine.EngineError, match="NaN or infinity"):
        stream.push(np.array([0.0, np.nan], np.float32))
    with pytest.raises(engine.EngineError, match="samples must be"):
        stream.push(np.zeros((2, 2), np.float32))
    stream.push(audio[20000:])
    assert stream.finish() == model.transcribe(audio)
    with pytest.raises(engine.EngineError, match="finished"):
        stream.push(audio)
    with pytest.raises(engine.EngineError, match="beam_width"):
        model.stream(beam_width=99)
    with pytest.raises(engine.EngineError, match="full context"):
        engine.Model(exported("server", "int8")).stream()
    with pytest.raises(engine.EngineError, match="no such file"):
        engine.Model("missing.dual")
    with pytest.raises(engine.EngineError, match="no kernels"):
        engine.Model(exported("device", "int8"), "abacus")


def test_the_engine_needs_no_torch(engine: Any, exported: Export) -> None:
    script = (
        "import sys, numpy, dualmode_engine\n"
        f"model = dualmode_engine.Model({str(exported('device', 'int8'))!r})\n"
        "model.transcribe(numpy.zeros(16000, numpy.float32))\n"
        "print(sorted({m.partition('.')[0] for m in sys.modules} & {'torch', 'dualmode'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_recognizer_counts_in_its_frames(
    engine: Any, exported: Export, recognizers: dict[int, Recognizer], audio: Samples
) -> None:
    """The recogniser of an artifact with frames of 80 ms, with the searches of this package."""
    behind = load(exported("device", "fp32", 80))
    assert behind.framing.frame_ms == 80
    ours, theirs = (one.transcribe(audio, "device") for one in (behind, recognizers[80]))
    assert theirs.words
    same_words(ours.words, theirs.words)
    stream, reference = (one.stream("device") for one in (behind, recognizers[80]))
    for cut in cuts_of(audio, 3):
        stream.push(cut)
        reference.push(cut)
    same_words(stream.finish().words, reference.finish().words)


@pytest.mark.parametrize("name", CORNERS)
def test_a_recognizer_runs_it_without_torch(
    engine: Any,
    exported: Export,
    recognizer: Recognizer,
    corner: Callable[..., Any],
    talkative: LoadedModel,
    audio: Samples,
    name: str,
) -> None:
    """Behind the seam: batches, streams, beam search, all by the searches of this package."""
    subnet = corner(talkative, name)
    behind = load(exported(name, "fp32"))
    audios = [audio, audio[:30000], audio[:1000]]
    for search in ("greedy", "beam"):
        ours = behind.transcribe_batch(audios, subnet, search)
        theirs = recognizer.transcribe_batch(audios, subnet, search)
        assert [t.text for t in ours] == [t.text for t in theirs]
    if not subnet.streams:
        return
    stream, reference = behind.stream(subnet), recognizer.stream(subnet)
    for cut in cuts_of(audio, 3):
        stream.push(cut)
        reference.push(cut)
    assert stream.finish().text == reference.finish().text
    with pytest.raises(SubnetError, match="the artifact contains"):
        behind.subnet(SERVER)
