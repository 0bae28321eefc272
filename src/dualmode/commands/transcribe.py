"""``dualmode transcribe``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dualmode.commands.guidance import (
    HotwordsOption,
    LmOption,
    LmWeightOption,
    NbestOption,
    PhrasesOption,
    ThresholdOption,
    WrittenOption,
    chosen_guidance,
)
from dualmode.commands.subnets import (
    ChunkOption,
    LeftOption,
    LookaheadOption,
    RunOnOption,
    SearchOption,
    SparsityOption,
    chosen_subnet,
)
from dualmode.errors import AudioError, SubnetError

if TYPE_CHECKING:
    from dualmode.commands.subnets import SubnetName
    from dualmode.decoding.guidance import Guidance
    from dualmode.decoding.search import SearchName
    from dualmode.decoding.transcript import Transcript
    from dualmode.model.subnet import Subnet
    from dualmode.recognizer import Recognizer

FormatName = Literal["text", "json", "srt", "vtt"]

_TOGETHER = 16  # files in a batch, which are printed together
_PIECE_S = 0.1  # audio that --stream pushes at a time


def transcribe(
    model: Annotated[Path, typer.Argument(help="A model directory, or a shipped model: talk.")],
    files: Annotated[list[Path], typer.Argument(help="WAV, FLAC, MP3, Ogg or Opus, any rate.")],
    subnet: Annotated[
        Literal["server", "device"] | None,
        typer.Option("--subnet", help="Default: server, or device with --stream."),
    ] = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Stream the file and show the growing text.")
    ] = False,
    form: Annotated[
        FormatName, typer.Option("--format", help="json: one line per file; srt, vtt: captions.")
    ] = "text",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for one text file per sound file.")
    ] = None,
    search: SearchOption = "greedy",
    sparsity: SparsityOption = None,
    chunk_ms: ChunkOption = None,
    lookahead_ms: LookaheadOption = None,
    left_ms: LeftOption = None,
    phrases: PhrasesOption = None,
    threshold: ThresholdOption = None,
    hotwords: HotwordsOption = None,
    lm: LmOption = None,
    lm_weight: LmWeightOption = None,
    written: WrittenOption = False,
    nbest: NbestOption = 1,
    run_on: RunOnOption = "cpu",
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            metavar="ADDRESS",
            help="Transcribe archives with Ray; auto: a cluster on this machine; local: start one.",
        ),
    ] = None,
) -> None:
    """Transcribe sound files.

    A file that cannot be read is reported on stderr and skipped, and the exit status is 1.

    \b
    Examples:
      dualmode transcribe talk recording.wav
      dualmode transcribe runs/quickstart/model recording.wav
      dualmode transcribe MODEL recording.wav --subnet device --stream
      dualmode transcribe MODEL talk.mp3 --format srt > talk.srt
      dualmode transcribe MODEL *.wav --format json
      dualmode transcribe MODEL archive/ cuts.jsonl.gz --ray auto --out texts.jsonl
      dualmode transcribe MODEL command.wav --phrases commands.txt
      dualmode transcribe MODEL talk.wav --lm english.lm --hotwords "zelda, rubiz" --written
    """
    if ray is not None:
        _archive(model, files, out, ray, subnet or "server")
        return
    from dualmode.recognizer import load
    from dualmode.whole_files import check_writable

    if form in ("srt", "vtt") and len(files) > 1 and out is None:
        raise typer.BadParameter(f"captions of several files need --out FOLDER, not only {form}")
    targets = _targets(files, out, "txt" if form == "text" else form) if out is not None else {}
    check_writable(*targets.values())
    recognizer = load(model, device=run_on)
    chosen = chosen_subnet(
        recognizer,
        subnet or ("device" if stream else None),
        sparsity=sparsity,
        chunk_ms=chunk_ms,
        lookahead_ms=lookahead_ms,
        left_ms=left_ms,
    )
    if stream and not chosen.streams:
        raise SubnetError("server has full context and cannot stream: use --subnet device")
    recognizer.keep_only(chosen)
    guidance = chosen_guidance(
        phrases=phrases,
        threshold=threshold,
        hotwords=hotwords,
        lm=lm,
        lm_weight=lm_weight,
        written=written,
        nbest=nbest,
    )
    results = (_streamed if stream else _whole)(recognizer, files, chosen, search, guidance)
    failed = 0
    for path, result in results:
        if isinstance(result, AudioError):
            failed += 1
            typer.secho(str(result), fg="red", err=True)
        else:
            _output(path, result, form, targets.get(path), name=len(files) > 1)
    if failed:
        raise typer.Exit(1)


def _archive(
    model: Path, places: list[Path], out: Path | None, address: str, subnet: SubnetName
) -> None:
    """Transcribe files, folders and CutSets on a cluster; resumes an interrupted run."""
    from dualmode.archive import transcribe_archive

    if out is None:
        raise typer.BadParameter("--ray needs --out FILE.jsonl or --out FOLDER.parquet")

    def report(done: int, of: int) -> None:
        typer.echo(f"{done} of {of} files", err=True)

    counts = transcribe_archive(model, places, out, address=address, subnet=subnet, report=report)
    typer.echo(f"{out}: {counts.recognised} recognised, {counts.before} were done before")
    if counts.failed:
        typer.secho(f"{counts.failed} files cannot be read; see {out}", fg="red", err=True)
        raise typer.Exit(1)


def _targets(files: list[Path], out: Path, suffix: str) -> dict[Path, Path]:
    """The path in ``out`` for each sound file: its name or, if several have the same name, its path
    relative to their common folder."""
    whole = {path: path.absolute() for path in files}
    top = Path(os.path.commonpath([path.parent for path in whole.values()]))
    candidates = [
        {path: f"{path.stem}.{suffix}" for path in files},
        {
            path: str(full.relative_to(top).with_suffix(f".{suffix}"))
            for path, full in whole.items()
        },
        {path: f"{full.relative_to(top)}.{suffix}" for path, full in whole.items()},
    ]
    distinct = len(set(whole.values()))
    names = next((c for c in candidates if len(set(c.values())) == distinct), candidates[-1])
    return {path: out / name for path, name in names.items()}


def _whole(
    recognizer: Recognizer,
    files: list[Path],
    subnet: Subnet,
    search: SearchName,
    guidance: Guidance,
) -> Iterator[tuple[Path, Transcript | AudioError]]:
    for start in range(0, len(files), _TOGETHER):
        group = files[start : start + _TOGETHER]
        results = recognizer.transcribe_batch(
            group, subnet, search, progress=sys.stderr.isatty(), **guidance
        )
        yield from zip(group, results, strict=True)


def _streamed(
    recognizer: Recognizer,
    files: list[Path],
    subnet: Subnet,
    search: SearchName,
    guidance: Guidance,
) -> Iterator[tuple[Path, Transcript | AudioError]]:
    from dualmode.audio import stream_audio
    from dualmode.display import GrowingText, make_console, show_stream

    for path in files:
        try:
            with GrowingText(make_console(stderr=True)) as growing:
                session = recognizer.stream(subnet, search, **guidance)
                result: Transcript | AudioError
                result = show_stream(session, stream_audio(path, _PIECE_S), growing)
        except AudioError as error:
            result = error
        yield path, result


def _output(
    path: Path, result: Transcript, form: FormatName, target: Path | None, name: bool
) -> None:
    """Print a transcript, or write it to a file named after the sound file."""
    from dualmode.decoding.formats import FORMATS, to_dict
    from dualmode.whole_files import replace_text

    if form == "json":
        text = json.dumps({"file": str(path), **to_dict(result)}, ensure_ascii=False) + "\n"
    else:
        text = FORMATS[form](result)
    if target is not None:
        replace_text(target, text)
    elif form == "text" and name:
        typer.echo(f"{path}\t{text}", nl=False)
    else:
        typer.echo(text, nl=False)
