"""``POST /v1/audio/transcriptions``, compatible with OpenAI's clients, and ``GET /v1/models``."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import Message

from dualmode.decoding.formats import to_srt, to_vtt
from dualmode.decoding.transcript import Transcript
from dualmode.errors import AudioError
from dualmode.serving.containers import DEMUXERS
from dualmode.serving.files import begins_word, joined, transcripts
from dualmode.serving.metrics import Metrics
from dualmode.serving.models import Models, ServedModel
from dualmode.serving.settings import Settings

FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
_ENDINGS = {".wav", ".flac", ".mp3", ".ogg", ".opus", ".oga", *DEMUXERS}


@dataclass(frozen=True)
class _Job:
    """A request to transcribe an uploaded file."""

    folder: Path
    path: Path
    model: ServedModel
    subnet: str
    form: str
    stream: bool
    words: bool


class Transcriptions:
    """The HTTP endpoints. One thread recognises all files, a part of each in turn."""

    def __init__(self, models: Models, settings: Settings, metrics: Metrics) -> None:
        self._models = models
        self._limits = settings.limits
        self._metrics = metrics
        self._jobs = 0
        self._pool = ThreadPoolExecutor(1, "files")

    async def list_models(self, request: Request) -> Response:
        """``GET /v1/models``."""
        data = [
            {"id": name, "object": "model", "created": 0, "owned_by": "dualmode"}
            for name in self._models.ids()
        ]
        return JSONResponse({"object": "list", "data": data})

    async def transcribe(self, request: Request) -> Response:
        """``POST /v1/audio/transcriptions``: a multipart form with ``file`` and ``model``."""
        if self._jobs >= self._limits.uploads:
            raise HTTPException(503, "too many files wait; try again", headers={"Retry-After": "5"})
        self._jobs += 1
        self._metrics.uploads.inc()
        streaming = False
        folder = Path(tempfile.mkdtemp(prefix="dualmode-"))
        try:
            job = await self._job(request, folder)
            parts = self._parts(job, request)
            if not job.stream:
                return _response([part async for part in parts], job)
            # A file that cannot be read fails at its first part, before the headers are sent.
            first = await anext(parts, None)
            streaming = True
            return StreamingResponse(
                self._events(job, first, parts), media_type="text/event-stream"
            )
        except AudioError as error:
            message = str(error).replace(f"{folder}/", "")
            raise HTTPException(400, message) from None
        finally:
            if not streaming:
                self._end(folder)

    def stop(self) -> None:
        """End the thread."""
        self._pool.shutdown(cancel_futures=True)

    def _end(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self._jobs -= 1
        self._metrics.uploads.dec()

    async def _job(self, request: Request, folder: Path) -> _Job:
        """Read the form; the file is written to disk as it arrives."""
        bounded = Request(request.scope, _bounded(request, self._limits.upload_bytes))
        async with bounded.form(max_files=1, max_fields=50) as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise HTTPException(400, "the form has no file: send multipart/form-data")
            asked = _field(form, "model", "server")
            recogniser = self._models.recogniser(asked)
            if recogniser is None:
                known = ", ".join(self._models.ids())
                raise HTTPException(404, f"no model {asked!r}: choose one of {known}")
            kind = _field(form, "response_format", "json")
            if kind not in FORMATS:
                raise HTTPException(400, f"response_format must be one of {', '.join(FORMATS)}")
            ending = Path(file.filename or "").suffix.lower()
            path = folder / f"upload{ending if ending in _ENDINGS else ''}"
            await asyncio.to_thread(_save, file, path)
            wanted = form.getlist("timestamp_granularities[]")
            stream = _field(form, "stream", "false").lower() in ("true", "1")
            return _Job(folder, path, *recogniser, kind, stream, "word" in wanted)

    async def _parts(self, job: _Job, request: Request) -> AsyncIterator[Transcript]:
        """Recognise part by part, until the client disconnects."""
        loop = asyncio.get_running_loop()
        parts: Iterator[Transcript] = transcripts(job.model.recognizer, job.path, job.subnet)
        processed_s = 0.0
        while True:
            began = time.perf_counter()
            part = await loop.run_in_executor(self._pool, next, parts, None)
            if part is None:
                return
            self._metrics.busy.labels(job.subnet).inc(time.perf_counter() - began)
            self._metrics.audio.labels(job.subnet).inc(max(0.0, part.seconds - processed_s))
            processed_s = max(processed_s, part.seconds)
            yield part
            if await request.is_disconnected():
                return

    async def _events(
        self, job: _Job, first: Transcript | None, rest: AsyncIterator[Transcript]
    ) -> AsyncIterator[str]:
        """Server-sent events: pieces of text, then the whole text."""
        text = ""
        try:
            async for part in _chain(first, rest):
                if part.text:
                    space = " " if text and begins_word(job.model.recognizer, part) else ""
                    delta = space + part.text
                    text += delta
                    yield _event({"type": "transcript.text.delta", "delta": delta})
            yield _event({"type": "transcript.text.done", "text": text})
        except AudioError as error:
            # The headers are already sent, so report the error as an event.
            message = str(error).replace(f"{job.folder}/", "")
            yield _event({"type": "error", "error": {"message": message}})
        finally:
            self._end(job.folder)


async def _chain(
    first: Transcript | None, rest: AsyncIterator[Transcript]
) -> AsyncIterator[Transcript]:
    if first is not None:
        yield first
    async for part in rest:
        yield part


def _bounded(request: Request, most: int) -> Any:
    """The request's ``receive``, which fails after more than ``most`` bytes."""
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > most:
        raise HTTPException(413, f"a request has at most {most} bytes")
    taken = 0

    async def receive() -> Message:
        nonlocal taken
        message = await request.receive()
        taken += len(message.get("body", b""))
        if taken > most:
            raise HTTPException(413, f"a request has at most {most} bytes")
        return message

    return receive


def _save(file: UploadFile, path: Path) -> None:
    with path.open("wb") as out:
        shutil.copyfileobj(file.file, out, 1 << 20)


def _field(form: FormData, name: str, default: str) -> str:
    value = form.get(name, default)
    return value if isinstance(value, str) else default


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


def _response(parts: list[Transcript], job: _Job) -> Response:
    whole = joined(job.model.recognizer, parts)
    if job.form == "text":
        return PlainTextResponse(whole.text + "\n")
    if job.form == "srt":
        return PlainTextResponse(to_srt(whole), media_type="application/x-subrip")
    if job.form == "vtt":
        return PlainTextResponse(to_vtt(whole), media_type="text/vtt")
    if job.form == "json":
        return JSONResponse({"text": whole.text})
    return JSONResponse(_verbose(whole, [part for part in parts if part.words], job.words))


def _verbose(whole: Transcript, parts: list[Transcript], words: bool) -> dict[str, Any]:
    """The fields of OpenAI's verbose_json; those specific to Whisper have neutral values."""
    content: dict[str, Any] = {
        "task": "transcribe",
        "language": "english",
        "duration": round(whole.seconds, 3),
        "text": whole.text,
        "segments": [
            {
                "id": number,
                "seek": 0,
                "start": part.words[0].start_s,
                "end": part.words[-1].end_s,
                "text": part.text,
                "tokens": [],
                "temperature": 0.0,
                "avg_logprob": 0.0,
                "compression_ratio": 1.0,
                "no_speech_prob": 0.0,
            }
            for number, part in enumerate(parts)
        ],
    }
    if words:
        content["words"] = [
            {
                "word": word.text,
                "start": word.start_s,
                "end": word.end_s,
                "confidence": round(word.confidence, 4),
            }
            for word in whole.words
        ]
    return content
