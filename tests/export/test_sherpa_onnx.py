"""Exported graphs against torch, and in stock sherpa-onnx."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from dualmode.decoding.greedy import GreedySearch
from dualmode.decoding.transcript import Token, Transcript
from dualmode.export.onnx_graphs import OfflineEncoder, OnlineEncoder, with_baked_mask
from dualmode.export.sherpa_onnx import _write_online_encoder, export_sherpa_onnx, needed_tail_s
from dualmode.features import Framing, fbank
from dualmode.model.directory import LoadedModel, load_model, save_model
from dualmode.model.subnet import SERVER, ChunkedContext, Subnet
from dualmode.recognizer import load
from dualmode.runtime.pytorch import TorchRuntime

ort = pytest.importorskip("onnxruntime", reason="needs the extra [onnx]")
sherpa_onnx = pytest.importorskip("sherpa_onnx", reason="needs the package sherpa-onnx")
pytest.importorskip("onnxscript", reason="needs the extra [onnx]")

Samples = npt.NDArray[np.float32]
Babble = Callable[..., Samples]
RATE_HZ = 16000


@pytest.fixture(scope="module")
def model_folder(talkative_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The talkative model without ``<unk>``, which sherpa-onnx takes for a blank."""
    return known(talkative_model, tmp_path_factory.mktemp("known") / "model")


def known(model: Path, folder: Path) -> Path:
    """A copy of a model that never says ``<unk>``."""
    shutil.copytree(model, folder)
    loaded = load_model(folder)
    with torch.no_grad():
        loaded.model.joiner.out.bias[1] = -1e4
    save_model(folder, loaded.model, loaded.recipe)
    return folder


@pytest.fixture(scope="module")
def loaded(model_folder: Path) -> LoadedModel:
    return load_model(model_folder)


@pytest.fixture(scope="module")
def exported(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from dualmode.cli import app

    out = tmp_path_factory.mktemp("exported")
    done = CliRunner().invoke(app, ["export", "sherpa-onnx", str(model_folder), str(out), "--int8"])
    assert done.exit_code == 0, done.output
    return out


def session(path: Path) -> Any:
    return ort.InferenceSession(path, providers=["CPUExecutionProvider"])


def run(graph: Any, arguments: list[torch.Tensor]) -> list[npt.NDArray[Any]]:
    names = [given.name for given in graph.get_inputs()]
    feeds = {name: tensor.numpy() for name, tensor in zip(names, arguments, strict=True)}
    outputs: list[npt.NDArray[Any]] = graph.run(None, feeds)
    return outputs


def assert_steps_equal(graph: Any, module: OnlineEncoder, batch: int, steps: int) -> None:
    """Several steps from the start, each path with the states that it gave itself."""
    generator = torch.Generator().manual_seed(batch)
    ours = theirs = module.initial_states(batch)
    processed = counted = torch.arange(batch)
    for _ in range(steps):
        shape = (batch, 4 * module.context.window + 3, 80)
        mels = torch.randn(shape, generator=generator) * 4 - 6
        with torch.inference_mode():
            frames, *states, processed = module(mels, ours, processed)
        ours = list(states)
        got = [torch.from_numpy(output) for output in run(graph, [mels, *theirs, counted])]
        theirs, counted = got[1:-1], got[-1]
        torch.testing.assert_close(got[0], frames, atol=1e-4, rtol=0)
        assert counted.tolist() == processed.tolist()
        for mine, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(other, mine, atol=1e-4, rtol=0)


@pytest.mark.parametrize("batch", [1, 3])
def test_online_encoder_equals_torch(exported: Path, loaded: LoadedModel, batch: int) -> None:
    net, subnet = with_baked_mask(loaded.model, loaded.device_subnet)
    assert isinstance(subnet.context, ChunkedContext)
    module = OnlineEncoder(net, subnet, subnet.context)
    assert_steps_equal(session(exported / "device" / "encoder.onnx"), module, batch, steps=5)


def test_other_contexts_equal_torch(loaded: LoadedModel, tmp_path: Path) -> None:
    context = ChunkedContext(chunk=3, left=0, lookahead=0)
    net, subnet = with_baked_mask(loaded.model, Subnet(context, 0.0))
    _write_online_encoder(net, subnet, context, tmp_path / "encoder.onnx", 0.0)
    module = OnlineEncoder(net, subnet, context)
    assert_steps_equal(session(tmp_path / "encoder.onnx"), module, 2, steps=3)


def test_offline_encoder_equals_torch(exported: Path, loaded: LoadedModel) -> None:
    graph = session(exported / "server" / "encoder.onnx")
    for lengths in ([5], [96], [200, 7, 131]):
        count = torch.tensor(lengths)
        mels = torch.randn(len(lengths), max(lengths), 80, generator=torch.manual_seed(1)) * 4 - 6
        with torch.inference_mode():
            frames, frame_counts = loaded.model.recognize(mels, count, SERVER)
        got, got_counts = run(graph, [mels, count])
        assert got_counts.tolist() == frame_counts.tolist()
        for row, real in enumerate(got_counts):
            np.testing.assert_allclose(got[row, :real], frames[row, :real], atol=1e-4)


def transducer(folder: Path, kind: Any, suffix: str = "", **options: Any) -> Any:
    return kind.from_transducer(
        encoder=str(folder / f"encoder{suffix}.onnx"),
        decoder=str(folder / "decoder.onnx"),
        joiner=str(folder / f"joiner{suffix}.onnx"),
        tokens=str(folder / "tokens.txt"),
        num_threads=1,
        **options,
    )


def with_silence(samples: Samples, seconds: float) -> Samples:
    return np.concatenate([samples, np.zeros(round(seconds * RATE_HZ), np.float32)])


def named(tokens: tuple[Token, ...], loaded: LoadedModel) -> list[tuple[str, int]]:
    pieces = loaded.tokens.pieces
    return [(pieces[token.id].replace("\u2581", " "), token.frame) for token in tokens]


def heard(tokens: list[str], timestamps: list[float]) -> list[tuple[str, int]]:
    pairs = zip(tokens, timestamps, strict=True)
    return [(token, round(at * 25)) for token, at in pairs]


def one_symbol_per_40_ms(
    loaded: LoadedModel, subnet: Subnet, samples: Samples
) -> tuple[Token, ...]:
    """Greedy tokens of a whole recording, on frames of 40 ms.

    sherpa-onnx takes at most one symbol a frame. A frame of 80 ms comes twice, so that it can have
    two, of which the second has the time of the copy.
    """
    runtime = TorchRuntime(loaded.model, subnet)
    copies = runtime.framing.frame_ms // 40
    search = GreedySearch(runtime, max_symbols=copies)
    mels = fbank(samples)[None]
    frames, counts = runtime.encode(mels, np.array([mels.shape[1]]))
    tokens = search.best(search.advance(search.start(1), frames, counts))[0]
    again = [False, *(a.frame == b.frame for a, b in pairwise(tokens))]
    return tuple(
        replace(token, frame=copies * token.frame + second)
        for token, second in zip(tokens, again, strict=True)
    )


@pytest.fixture(scope="module")
def recordings(babble: Babble) -> list[Samples]:
    return [babble(seconds, seed) for seed, seconds in enumerate((3.1, 5.3, 4.0, 6.2))]


def test_offline_tokens_equal(
    exported: Path, loaded: LoadedModel, recordings: list[Samples]
) -> None:
    check_offline_tokens(exported, loaded, recordings)


def check_offline_tokens(exported: Path, loaded: LoadedModel, recordings: list[Samples]) -> None:
    recognizer = transducer(exported / "server", sherpa_onnx.OfflineRecognizer)
    wanted = [named(one_symbol_per_40_ms(loaded, SERVER, r), loaded) for r in recordings]
    assert sum(map(len, wanted)) > 12
    for batch in range(1, 5):
        streams = [recognizer.create_stream() for _ in range(batch)]
        for stream, samples in zip(streams, recordings, strict=False):
            stream.accept_waveform(RATE_HZ, samples)
        recognizer.decode_streams(streams)
        got = [heard(stream.result.tokens, stream.result.timestamps) for stream in streams]
        assert got == wanted[:batch]


def decoded_frames(context: ChunkedContext, stride: int, samples: int) -> int:
    """Frames of ``stride`` mel frames that sherpa-onnx decodes of a finished stream: whole steps,
    and only while more mel frames wait than a step reads."""
    mels = (samples + 80) // 160
    steps = 0
    while stride * (context.chunk * steps + context.window) + stride - 1 < mels:
        steps += 1
    return steps * context.chunk


def test_online_tokens_equal(
    exported: Path, loaded: LoadedModel, recordings: list[Samples]
) -> None:
    check_online_tokens(exported, loaded, recordings)


def check_online_tokens(exported: Path, loaded: LoadedModel, recordings: list[Samples]) -> None:
    recognizer = transducer(exported / "device", sherpa_onnx.OnlineRecognizer)
    subnet, framing = loaded.device_subnet, loaded.model.encoder.framing
    context = subnet.context
    assert isinstance(context, ChunkedContext)
    audio = [with_silence(samples, needed_tail_s(context, framing)) for samples in recordings]
    wanted = []
    for samples in audio:
        end = decoded_frames(context, framing.stride_mels, len(samples)) * framing.frame_ms // 40
        tokens = named(one_symbol_per_40_ms(loaded, subnet, samples), loaded)
        wanted.append([token for token in tokens if token[1] < end])
    assert sum(map(len, wanted)) > 12
    for batch in range(1, 5):
        streams = [recognizer.create_stream() for _ in range(batch)]
        for start in range(0, max(map(len, audio)), 4000):
            for stream, samples in zip(streams, audio, strict=False):
                stream.accept_waveform(RATE_HZ, samples[start : start + 4000])
                if start + 4000 >= len(samples) > start:
                    stream.input_finished()
            while ready := [stream for stream in streams if recognizer.is_ready(stream)]:
                recognizer.decode_streams(ready)
        got = [heard(recognizer.tokens(s), recognizer.timestamps(s)) for s in streams]
        assert got == wanted[:batch]


def test_frames_of_80_ms_give_the_same_tokens_and_times(
    talkative_80ms: Path, recordings: list[Samples], tmp_path: Path
) -> None:
    """In stock sherpa-onnx, which knows frames of 40 ms only, and in the runtime ``onnx``."""
    loaded = load_model(known(talkative_80ms, tmp_path / "model"))
    export_sherpa_onnx(loaded, tmp_path / "export", {"device": loaded.device_subnet})
    check_online_tokens(tmp_path / "export", loaded, recordings)
    graphs, network = load(tmp_path / "export"), load(tmp_path / "model")
    ours, theirs = (one.transcribe_batch(recordings, "device") for one in (graphs, network))
    for mine, other in zip(ours, theirs, strict=True):
        assert isinstance(mine, Transcript)
        assert isinstance(other, Transcript)
        assert [w.start_s for w in mine.words] == [w.start_s for w in other.words]
        assert [(t.id, t.frame) for t in mine.tokens] == [(t.id, t.frame) for t in other.tokens]
    said = (tmp_path / "export" / "README.md").read_text(encoding="utf-8")
    assert "Chunks of 320 ms, 160 ms of look-ahead, 640 ms of left context" in said
    assert "each frame of 80 ms of the model twice" in said


def test_whole_utterances_have_each_frame_of_80_ms_twice(talkative_80ms: Path) -> None:
    """Of the module alone, because tracing it takes long."""
    net = load_model(talkative_80ms).model.eval()
    mels, lengths = torch.randn(3, 200, 80) - 6, torch.tensor([200, 15, 131])
    with torch.inference_mode():
        frames, counts = net.recognize(mels, lengths, SERVER)
        twice, twice_counts = OfflineEncoder(net, SERVER)(mels, lengths)
    assert twice_counts.tolist() == (2 * counts).tolist() == [48, 2, 30]
    for row, count in enumerate(counts.tolist()):
        for copy in (0, 1):
            copied = twice[row, copy : 2 * count : 2]
            torch.testing.assert_close(copied, frames[row, :count], atol=1e-5, rtol=1e-4)


def test_the_tail_reaches_all_words(loaded: LoadedModel) -> None:
    context = loaded.device_subnet.context
    assert isinstance(context, ChunkedContext)
    for samples in range(16000, 48000, 1111):
        whole = samples + round(needed_tail_s(context, Framing(40)) * RATE_HZ)
        session_frames = (samples + round(0.3 * RATE_HZ) + 80) // 160 // 4
        assert decoded_frames(context, 4, whole) >= session_frames - 1


def test_beam_search_takes_hotwords(
    exported: Path, recordings: list[Samples], tmp_path: Path
) -> None:
    hotwords = tmp_path / "hotwords.txt"
    hotwords.write_text("seven three\nfive :9.0\n", encoding="utf-8")
    for name, kind in (
        ("device", sherpa_onnx.OnlineRecognizer),
        ("server", sherpa_onnx.OfflineRecognizer),
    ):
        recognizer = transducer(
            exported / name,
            kind,
            decoding_method="modified_beam_search",
            hotwords_file=str(hotwords),
            modeling_unit="bpe",
            bpe_vocab=str(exported / name / "bpe.vocab"),
        )
        stream = recognizer.create_stream()
        stream.accept_waveform(RATE_HZ, with_silence(recordings[0], 1.0))
        if name == "device":
            while recognizer.is_ready(stream):
                recognizer.decode_streams([stream])
            assert recognizer.get_result(stream)
        else:
            recognizer.decode_streams([stream])
            assert stream.result.text


@pytest.mark.parametrize("name", ["device", "server"])
def test_int8_has_a_scale_an_output(exported: Path, name: str) -> None:
    import onnx

    folder = exported / name
    quantized = onnx.load(folder / "encoder.int8.onnx")
    kinds = [node.op_type for node in quantized.graph.node]
    assert "MatMulInteger" in kinds
    assert "DynamicQuantizeLinear" in kinds
    weights = {i.name: tuple(i.dims) for i in quantized.graph.initializer}
    products = [node for node in quantized.graph.node if node.op_type == "MatMulInteger"]
    scales = [dims for key, dims in weights.items() if key.endswith("_scale")]
    outputs = sorted(weights[node.input[1]][-1:] for node in products)
    assert sorted(scales) == outputs
    whole = (folder / "encoder.onnx").stat().st_size
    assert (folder / "encoder.int8.onnx").stat().st_size < whole


def test_int8_is_near(exported: Path, recordings: list[Samples]) -> None:
    mels = torch.from_numpy(fbank(recordings[0])).unsqueeze(0)
    given = [mels, torch.tensor([mels.shape[1]])]
    exact = run(session(exported / "server" / "encoder.onnx"), given)[0]
    near = run(session(exported / "server" / "encoder.int8.onnx"), given)[0]
    assert np.abs(near - exact).max() > 0
    assert np.square(near - exact).mean() < 0.05 * np.square(exact).mean()


def python_blocks(readme: str) -> Iterator[str]:
    for block in readme.split("```python\n")[1:]:
        yield block.partition("```")[0]


def test_the_readme_runs(
    exported: Path,
    recordings: list[Samples],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    soundfile.write(exported / "recording.wav", recordings[2], RATE_HZ)
    monkeypatch.chdir(exported)
    blocks = list(python_blocks((exported / "README.md").read_text(encoding="utf-8")))
    assert len(blocks) == 2
    for block in blocks:
        exec(block, {})
    assert all(len(line.split()) > 1 for line in capsys.readouterr().out.strip().splitlines())
