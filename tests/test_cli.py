"""The command line: light, helpful, honest in its exit codes."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import typer
from typer.testing import CliRunner, Result

import dualmode
from dualmode.cli import app
from dualmode.data.left_out import Report

Run = Callable[..., Result]

PLAIN = {"NO_COLOR": "1", "COLUMNS": "200", "TERM": "dumb"}


def every_command(command: Any, name: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The names of all commands and groups of commands, but for ``dualmode`` itself."""
    below = getattr(command, "commands", {}).items()
    found = [one for word, child in below for one in every_command(child, (*name, word))]
    return [name, *found] if name else found


COMMANDS = every_command(typer.main.get_command(app))
GROUPS = {name[:-1] for name in COMMANDS}


@pytest.fixture
def run() -> Run:
    """Run the command line in this process; ``run("inspect", path)``."""

    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(a) for a in arguments], env=PLAIN)

    return invoke


@pytest.fixture(scope="session")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three files of noise, 1 to 3 s: a WAV, a FLAC at another rate, a stereo WAV."""
    folder = tmp_path_factory.mktemp("sounds")
    rng = np.random.default_rng(0)
    made = (("one.wav", 16000, 1, 1.0), ("two.flac", 44100, 1, 2.0), ("three.wav", 8000, 2, 3.0))
    for name, rate, channels, seconds in made:
        noise = 0.1 * rng.standard_normal((round(rate * seconds), channels))
        soundfile.write(folder / name, noise, rate)
    return [folder / name for name, *_ in made]


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    heavy = ("torch", "lhotse", "sentencepiece", "scipy", "numpy")
    script = (
        "import sys\nfrom dualmode.cli import main\n"
        f"sys.argv = ['dualmode', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n"
        f"    print('LOADED', end.code, *[m for m in {heavy!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "LOADED 0"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_has_examples_that_parse(
    command: tuple[str, ...], run: Run, parse_command: Callable[[str], None]
) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    block = re.split("Examples?:", result.stdout)[-1].partition("╭")[0]
    examples = [line.strip() for line in block.splitlines() if line.strip()]
    if command not in GROUPS:
        assert any(f"dualmode {' '.join(command)} " in f"{line} " for line in examples)
    for example in examples:
        if example.startswith("dualmode "):
            parse_command(example)


def test_every_command_is_found() -> None:
    assert {(), ("prepare",), ("export",)} == GROUPS
    assert {("pretrain",), ("probe",), ("compare",), ("export", "engine")} < {*COMMANDS}
    assert len(COMMANDS) >= 20


def test_the_parser_of_examples_can_fail(parse_command: Callable[[str], None]) -> None:
    with pytest.raises(Exception, match="--streem"):
        parse_command("dualmode transcribe model my.wav --streem")
    with pytest.raises(AssertionError, match="no command"):
        parse_command("dualmode transscribe model my.wav")


@pytest.mark.parametrize(
    "arguments",
    [
        ("inspect", "/no/such/model"),
        ("transcribe", "/no/such/model", "a.wav"),
        ("evaluate", "/no/such/model", "cuts"),
        ("train", "no-such-recipe", "--out", "out"),
        ("train", "quickstart", "--out", "out", "--set", "training.stepz=1"),
        ("pretrain", "no-such-recipe", "--out", "out"),
        ("pretrain", "quickstart", "--out", "out"),
        ("pretrain", "quickstart-pretrain", "--out", "out", "--set", "pretraining.entriez=1"),
        ("prepare", "tsv", "/no/such/table.tsv", "out"),
        ("probe", "/no/such/model", "cuts", "--aligner", "/no/such/aligner"),
        ("compare", "/no/such/first.jsonl", "/no/such/second.jsonl"),
        ("tune", "/no/such/model", "cuts", "--lm", "english.lm"),
        ("lm", "/no/such/text.txt", "english.lm", "--model", "/no/such/model"),
        ("export", "engine", "/no/such/model", "device.dual"),
        ("export", "sherpa-onnx", "/no/such/model", "exported"),
        ("copy", "/no/such/model", "out"),
        ("label", "/no/such/recordings", "out", "--teacher", "/no/such/teacher"),
        ("read", "/no/such/sentences.txt", "out", "--hours", "1"),
        ("serve", "/no/such/model"),
        ("listen", "/no/such/model"),
    ],
    ids=" ".join,
)
def test_errors_are_one_message_without_traceback(
    arguments: tuple[str, ...], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.output
    assert result.stdout == ""


def test_ctrl_c_exits_130(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dualmode.data.synth.synthesize", interrupted)
    result = run("prepare", "synth", tmp_path)
    assert result.exit_code == 130
    assert "Traceback" not in result.output


def test_transcribe_goes_on_after_a_bad_file(
    run: Run, babbling_model: Path, sounds: list[Path], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"not audio")
    result = run("transcribe", babbling_model, sounds[0], bad, sounds[2])
    assert result.exit_code == 1
    assert "bad.wav" in result.stderr
    recognizer = dualmode.load(babbling_model)
    expected = [f"{p}\t{recognizer.transcribe(p).text}" for p in (sounds[0], sounds[2])]
    assert result.stdout.splitlines() == expected
    assert expected[0].split("\t")[1]


def test_json_is_a_line_a_file(run: Run, babbling_model: Path, sounds: list[Path]) -> None:
    result = run("transcribe", babbling_model, *sounds, "--format", "json", "--subnet", "device")
    assert result.exit_code == 0
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["file"] for line in lines] == [str(p) for p in sounds]
    assert [line["seconds"] for line in lines] == pytest.approx([1.0, 2.0, 3.0], abs=0.01)
    recognizer = dualmode.load(babbling_model)
    assert lines[1]["text"] == recognizer.transcribe(sounds[1], subnet="device").text
    assert {"text", "start", "end", "confidence"} <= set(lines[1]["words"][0])


def test_stream_grows_and_ends_as_the_whole_file(
    run: Run, babbling_model: Path, sounds: list[Path]
) -> None:
    result = run("transcribe", babbling_model, sounds[2], "--stream")
    assert result.exit_code == 0
    final = dualmode.load(babbling_model).transcribe(sounds[2], subnet="device").text
    assert result.stdout.strip() == final
    partials = [line.split(" s  ", 1)[1] for line in result.stderr.splitlines()]
    assert len(partials) >= 3
    lengths = [len(p) for p in partials]
    assert lengths == sorted(lengths)
    assert final.startswith(partials[0])


def test_a_stream_of_server_is_refused(run: Run, babbling_model: Path, sounds: list[Path]) -> None:
    result = run("transcribe", babbling_model, sounds[0], "--stream", "--subnet", "server")
    assert result.exit_code == 1
    assert "--subnet device" in result.stderr


def test_captions_go_to_files_named_after_the_audio(
    run: Run, babbling_model: Path, sounds: list[Path], tmp_path: Path
) -> None:
    refused = run("transcribe", babbling_model, *sounds, "--format", "srt")
    assert refused.exit_code == 2
    assert "--out" in refused.stderr
    done = run("transcribe", babbling_model, *sounds, "--format", "srt", "--out", tmp_path / "srt")
    assert done.exit_code == 0
    assert sorted(p.name for p in (tmp_path / "srt").iterdir()) == [
        "one.srt",
        "three.srt",
        "two.srt",
    ]
    assert "-->" in (tmp_path / "srt" / "three.srt").read_text()


@pytest.mark.parametrize("form", ["text", "srt"])
def test_files_of_one_name_in_two_folders_have_a_text_each(
    form: str, run: Run, babbling_model: Path, sounds: list[Path], tmp_path: Path
) -> None:
    files = [tmp_path / folder / "x.wav" for folder in ("a", "b")]
    for file, sound in zip(files, (sounds[0], sounds[2]), strict=True):
        file.parent.mkdir()
        file.write_bytes(sound.read_bytes())
    out, suffix = tmp_path / "new" / "out", {"text": "txt", "srt": "srt"}[form]
    done = run("transcribe", babbling_model, *files, "--out", out, "--format", form)
    assert done.exit_code == 0, done.output
    written = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert written == [f"a/x.{suffix}", f"b/x.{suffix}"]
    recognizer = dualmode.load(babbling_model)
    found = [recognizer.transcribe(file) for file in files]
    expected = [f"{t.text}\n" if form == "text" else t.to_srt() for t in found]
    assert [(out / name).read_text(encoding="utf-8") for name in written] == expected
    assert expected[0] != expected[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ("evaluate", "MODEL", "cuts", "--json", "FILE"),
        ("evaluate", "MODEL", "cuts", "--utterances", "FILE"),
        ("compare", "first.jsonl", "second.jsonl", "--json", "FILE"),
        ("probe", "MODEL", "cuts", "--aligner", "MODEL", "--json", "FILE"),
        ("inspect", "MODEL", "--json", "FILE"),
        ("inspect", "no.dual", "--json", "FILE"),
        ("lm", "sentences.txt", "FILE", "--model", "MODEL"),
        ("transcribe", "MODEL", "a.wav", "--out", "FILE"),
    ],
    ids=" ".join,
)
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_computed(
    arguments: tuple[str, ...], run: Run, tmp_path: Path
) -> None:
    """There is no model either: it would be missed first if it were read first."""
    (tmp_path / "taken").write_text("a file, not a folder", encoding="utf-8")
    file = tmp_path / "taken" / "new" / "results"
    result = run(*(file if word == "FILE" else word for word in arguments))
    assert result.exit_code == 1
    assert "results" in result.stderr
    assert "cannot be written" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--subnet", "device", "--chunk-ms", "100"], "multiple of 40"),
        (["--subnet", "device", "--chunk-ms", "0"], "chunk"),
        (["--subnet", "server", "--chunk-ms", "320"], "no chunks"),
        (["--sparsity", "0.6"], "0.6"),
    ],
)
def test_subnets_that_cannot_be_are_explained(
    options: list[str], named: str, run: Run, babbling_model: Path, sounds: list[Path]
) -> None:
    result = run("transcribe", babbling_model, sounds[0], *options)
    assert result.exit_code == 1
    assert named in result.stderr


def test_times_are_counted_in_the_frames_of_the_model(
    run: Run, talkative_80ms: Path, sounds: list[Path]
) -> None:
    from dualmode.model.subnet import ChunkedContext, Subnet

    refused = run("transcribe", talkative_80ms, sounds[2], "--subnet", "device", "--left-ms", "200")
    assert refused.exit_code == 1
    said = " ".join(refused.stderr.split())
    assert "--left-ms 200: must be a multiple of 80" in said
    assert "try 160" in said
    options = ["--subnet", "device", "--chunk-ms", "160", "--lookahead-ms", "0", "--left-ms", "400"]
    result = run("transcribe", talkative_80ms, sounds[2], *options)
    subnet = Subnet(ChunkedContext(chunk=2, left=5, lookahead=0), 0.5)
    expected = dualmode.load(talkative_80ms).transcribe(sounds[2], subnet)
    assert expected.text
    assert result.stdout.strip() == expected.text


def test_options_choose_the_subnet(run: Run, babbling_model: Path, sounds: list[Path]) -> None:
    from dualmode.model.subnet import ChunkedContext, Subnet

    options = ["--subnet", "device", "--chunk-ms", "160", "--lookahead-ms", "0", "--left-ms", "400"]
    result = run("transcribe", babbling_model, sounds[2], *options, "--sparsity", "0.5")
    subnet = Subnet(ChunkedContext(chunk=4, left=10, lookahead=0), 0.5)
    recognizer = dualmode.load(babbling_model)
    assert result.stdout.strip() == recognizer.transcribe(sounds[2], subnet).text
    assert result.stdout.strip() != recognizer.transcribe(sounds[2], "device").text


def test_inspect_counts_the_file_it_is_given(
    run: Run, babbling_model: Path, tmp_path: Path
) -> None:
    figures = tmp_path / "new" / "model.json"
    result = run("inspect", babbling_model, "--json", figures)
    assert result.exit_code == 0
    found = json.loads(figures.read_text())
    assert f"{found['parameters']:,} parameters" in result.stdout
    assert [row["format"] for row in found["footprints"]][-1] == "sparse int8"
    for row in found["footprints"]:
        assert f"{row['total_bytes']:,}" in result.stdout


def test_an_artifact_is_exported_and_inspected(
    run: Run, babbling_model: Path, tmp_path: Path
) -> None:
    artifact, figures = tmp_path / "new" / "device.dual", tmp_path / "newer" / "artifact.json"
    made = run("export", "engine", babbling_model, artifact)
    assert made.exit_code == 0, made.output
    assert f"{artifact.stat().st_size:,} bytes" in made.stdout
    result = run("inspect", artifact, "--json", figures)
    assert result.exit_code == 0, result.output
    assert json.loads(figures.read_text())["bytes"] == artifact.stat().st_size


def test_prepare_prints_what_it_left_out(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {}

    def prepared(table: Path, out: Path, **options: Any) -> Report:
        settings.update(options)
        report = Report("table.tsv")
        report.keep(3.0)
        report.leave_out("b", "b.wav", "silence", "nothing louder than -60 dB")
        return report

    monkeypatch.setattr("dualmode.data.manifests.prepare_tsv", prepared)
    result = run("prepare", "tsv", "table.tsv", tmp_path, "--digits", "spell", "--flac")
    assert result.exit_code == 0
    assert settings["text"].digits == "spell"
    assert settings["to_flac"]
    assert "nothing louder" in result.stdout


class _Microphone:
    """A sound card that delivers what it was given, then Ctrl-C."""

    PortAudioError = RuntimeError

    def __init__(self, samples: np.ndarray[Any, Any] | None) -> None:
        self.samples = samples

    def InputStream(self, *, callback: Any, blocksize: int, **_: Any) -> _Microphone:  # noqa: N802
        if self.samples is None:
            raise self.PortAudioError("Error querying device -1")
        self.callback, self.blocksize = callback, blocksize
        return self

    def __enter__(self) -> _Microphone:
        assert self.samples is not None
        for at in range(0, len(self.samples), self.blocksize):
            block = self.samples[at : at + self.blocksize, None]
            self.callback(block, len(block), None, None)
        signal.raise_signal(signal.SIGINT)
        return self

    def __exit__(self, *_: object) -> None:
        pass


def test_listen_shows_what_the_microphone_hears_until_ctrl_c(
    run: Run, babbling_model: Path, sounds: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dualmode.audio import read_audio

    samples = read_audio(sounds[2])
    monkeypatch.setitem(sys.modules, "sounddevice", _Microphone(samples))  # type: ignore[arg-type]
    result = run("listen", babbling_model)
    assert result.exit_code == 0
    final = dualmode.load(babbling_model).transcribe(samples, subnet="device").text
    assert final
    assert result.stdout.splitlines()[-1].endswith(final)


def test_listen_without_a_microphone_says_so(
    run: Run, babbling_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", _Microphone(None))  # type: ignore[arg-type]
    result = run("listen", babbling_model)
    assert result.exit_code == 1
    assert "no microphone" in result.stderr


def test_listen_names_the_extra(
    run: Run, babbling_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    result = run("listen", babbling_model)
    assert result.exit_code == 1
    assert "pip install sounddevice" in result.stderr


def test_python_m_is_the_same_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dualmode", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"dualmode {dualmode.__version__}"
