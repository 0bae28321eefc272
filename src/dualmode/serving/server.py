"""The server process: uvicorn, graceful shutdown on signals, logs as JSON lines."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from types import FrameType
from typing import Any

import uvicorn

from dualmode.serving.app import Service


class DrainingServer(uvicorn.Server):
    """A server that, on SIGTERM or Ctrl-C, completes the text of open streams before it ends; a
    second signal ends it at once."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._loop: asyncio.AbstractEventLoop | None = None
        self._drain: asyncio.Task[None] | None = None

    async def serve(self, sockets: Any = None) -> None:
        """Serve until a signal."""
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if self._loop is None or self._service.draining:
            super().handle_exit(sig, frame)
            return
        self._service.draining = True
        self._loop.call_soon_threadsafe(self._begin, sig, frame)

    def _begin(self, sig: int, frame: FrameType | None) -> None:
        async def drain() -> None:
            try:
                await self._service.drain()
            finally:
                uvicorn.Server.handle_exit(self, sig, frame)

        self._drain = asyncio.get_running_loop().create_task(drain())


def make_server(service: Service, host: str, port: int) -> DrainingServer:
    """A server that is ready to run."""
    limits = service.settings.limits
    config = uvicorn.Config(
        service.app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        ws_max_size=limits.message_bytes + 1024,
        ws_max_queue=4,
        ws_ping_interval=20.0,
        ws_ping_timeout=20.0,
        ws_per_message_deflate=False,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=int(limits.drain_s) + 1,
        server_header=False,
    )
    return DrainingServer(config, service)


class JsonLines(logging.Formatter):
    """Formats log records as JSON objects; they never contain audio or text."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as one line."""
        fields: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + "Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)


def log_as_json() -> None:
    """Send the logs of the service and of uvicorn to stderr as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name in ("dualmode.serving", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(logging.INFO)
