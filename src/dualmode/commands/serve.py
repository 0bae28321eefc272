"""``dualmode serve``."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dualmode.errors import DualmodeError

if TYPE_CHECKING:
    from dualmode.recognizer import Recognizer
    from dualmode.serving.browser import BrowserEngine

_KEYS = "DUALMODE_API_KEYS"


def serve(
    models: Annotated[
        list[Path],
        typer.Argument(metavar="MODEL...", help="Model directories; the first is the default."),
    ],
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The port.")] = 8000,
    runtime: Annotated[
        str | None,
        typer.Option("--runtime", help="torch, onnx or engine; default: the one for MODEL."),
    ] = None,
    live: Annotated[
        str | None,
        typer.Option(
            "--live",
            metavar="engine|model|PATH",
            help="What recognises live streams: device of MODEL in the engine (the default if it "
            "is installed), MODEL itself, or an export of the first MODEL.",
        ),
    ] = None,
    browser: Annotated[
        Path | None,
        typer.Option("--browser", help="Let the page recognise by itself: folder of `make web`."),
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option("--keys", help=f"A file with one API key per line; or set {_KEYS}=A,B."),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option("--allow-origin", help="Another origin whose pages may use the service."),
    ] = None,
    connections: Annotated[
        int, typer.Option("--connections", min=1, help="Simultaneous WebSocket connections.")
    ] = 100,
    upload_mb: Annotated[
        int, typer.Option("--upload-mb", min=1, help="Largest size of an uploaded file.")
    ] = 512,
    idle_s: Annotated[
        float, typer.Option("--idle-s", min=1, help="Disconnect clients that send nothing.")
    ] = 60.0,
    silence_s: Annotated[
        float, typer.Option("--silence-s", min=0.1, help="Length of a pause that ends a segment.")
    ] = 1.2,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads per computation.")] = 1,
) -> None:
    """Serve live captions and transcriptions: a page, a WebSocket, and OpenAI's HTTP endpoint.

    Needs more packages: pip install 'dualmode[serve]'. SIGTERM or Ctrl-C completes the text of all
    streams, then stops the service.

    \b
    Examples:
      dualmode serve runs/quickstart/model
      dualmode serve MODEL --live model
      dualmode serve MODEL --live device.dual
      dualmode serve MODEL --browser build/web
      dualmode serve MODEL --port 9000 --keys keys.txt --host 0.0.0.0
    """
    try:
        from dualmode.serving.app import Service
        from dualmode.serving.server import log_as_json, make_server
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("dualmode"):
            raise
        raise DualmodeError(
            f"serving needs more packages ({error.name}): pip install 'dualmode[serve]'"
        ) from None
    from dualmode.decoding.stream import Endpointing
    from dualmode.recognizer import Recognizer
    from dualmode.serving.settings import Limits, Settings

    limits = Limits(connections=connections, upload_bytes=upload_mb << 20, idle_s=idle_s)
    settings = Settings(
        limits, _keys(keys), tuple(allow_origin or ()), Endpointing(silence_s=silence_s)
    )
    if not _is_loopback(host) and not settings.keys:
        typer.secho(
            f"anybody who can reach {host} can use this service: add --keys FILE",
            fg="yellow",
            err=True,
        )
    # Captions and second passes run at the same time; more threads of each would compete.
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    named = [(path.resolve().name, Recognizer.load(path, runtime)) for path in models]
    speaking = _live(named, live)
    offered = None if browser is None else _browser_engine(browser, models[0], live)
    service = Service(named, settings, speaking, offered)
    log_as_json()
    typer.echo(f"http://{host}:{port}  ({', '.join(service.models.ids())})")
    make_server(service, host, port).run()


def _live(named: list[tuple[str, Recognizer]], live: str | None) -> dict[str, Recognizer]:
    """The recognisers of live streams that are not those of the models, by name."""
    from dualmode.serving.live_recognizer import device_in_engine, load_live

    if live == "model":
        return {}
    found = {}
    for number, (name, recognizer) in enumerate(named):
        if live not in (None, "engine") and number == 0:
            found[name] = load_live(Path(live), recognizer)
        elif (device := device_in_engine(recognizer)) is not None:
            found[name] = device
        elif live == "engine":
            raise DualmodeError(
                f"--live engine needs the package dualmode-engine (`make engine`) and a model "
                f"directory with device, which {name} may not be"
            )
    return found


def _browser_engine(folder: Path, model: Path, live: str | None) -> BrowserEngine:
    """The engine in ``folder`` with the artifact that --live or MODEL is, or else with device of
    the model, exported here."""
    from dualmode.recognizer import Recognizer
    from dualmode.serving.browser import BrowserEngine, read_engine_files

    files = read_engine_files(folder)
    for path in (Path(live or ""), model):
        if path.is_file():
            device = Recognizer.load(path)
            return BrowserEngine(files, path.read_bytes(), device.subnet("device"), device.framing)
    from dualmode.export.engine import engine_artifact
    from dualmode.model.directory import load_model

    loaded = load_model(model)
    artifact = engine_artifact(loaded, loaded.device_subnet)
    framing = loaded.model.encoder.framing
    return BrowserEngine(files, artifact.to_bytes(), loaded.device_subnet, framing)


def _keys(path: Path | None) -> tuple[str, ...]:
    if path is None:
        listed = os.environ.get(_KEYS, "").split(",")
    else:
        try:
            listed = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DualmodeError(f"--keys {path}: {error}") from None
    keys = tuple(key.strip() for key in listed if key.strip())
    if path is not None and not keys:
        raise DualmodeError(f"--keys {path}: no keys in it; write one per line")
    return keys


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
