"""The service as one ASGI application."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from dualmode.recognizer import Recognizer
from dualmode.serving.browser import BrowserEngine
from dualmode.serving.connection import Connection
from dualmode.serving.metrics import Metrics
from dualmode.serving.models import Models
from dualmode.serving.security import key_is_right, origin_is_allowed, request_key
from dualmode.serving.settings import Settings
from dualmode.serving.transcriptions import Transcriptions

log = logging.getLogger("dualmode.serving")

LISTEN = "/v1/listen"
_CONTENT_SECURITY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_PAGE_HEADERS = {
    "Content-Security-Policy": _CONTENT_SECURITY,
    "Permissions-Policy": "microphone=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
_PAGE_TYPES = {
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
    "wasm": "application/wasm",
}


class Service:
    """The service and its routes.

    Args:
        recognizers: names and recognisers; the first is the default.
        settings: limits, API keys and allowed origins.
        live: recognisers of the live streams of models, by name, in place of their own; they may
            run an export or an artifact of the engine.
        browser: the engine and the model with which the page can recognise by itself; None: it
            does not offer to.
    """

    def __init__(
        self,
        recognizers: Sequence[tuple[str, Recognizer]],
        settings: Settings = Settings(),
        live: Mapping[str, Recognizer] | None = None,
        browser: BrowserEngine | None = None,
    ) -> None:
        self.settings = settings
        self._browser = browser
        self.metrics = Metrics()
        self.models = Models(recognizers, settings.endpointing, self.metrics, live)
        self.draining = False
        self._files = Transcriptions(self.models, settings, self.metrics)
        self._connections: set[Connection] = set()
        self.app = Starlette(
            routes=[
                WebSocketRoute(LISTEN, self._listen),
                Route("/v1/audio/transcriptions", self._files.transcribe, methods=["POST"]),
                Route("/v1/models", self._files.list_models),
                Route("/v1/device.dual", self._artifact),
                Route("/healthz", self._alive),
                Route("/readyz", self._ready),
                Route("/metrics", self._metrics_page),
                Route("/", self._page),
                Route("/page/offer.json", self._offer),
                Route("/page/engine/{name}", self._engine),
                Route("/page/{name}", self._page),
            ],
            exception_handlers={HTTPException: _as_openai, 500: _as_openai},
            lifespan=self._lifespan,
        )
        self.app.add_middleware(_Guard, service=self)

    async def drain(self) -> None:
        """Refuse new streams, end the open ones, and wait until all have their final text."""
        self.draining = True
        connections = list(self._connections)
        for connection in connections:
            connection.drain()
        waiting = asyncio.gather(*(c.drained() for c in connections), return_exceptions=True)
        try:
            await asyncio.wait_for(waiting, self.settings.limits.drain_s)
        except TimeoutError:
            log.warning("streams were cut off because they did not end within drain_s")

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        yield
        self._files.stop()
        await asyncio.to_thread(self.models.stop)

    async def _listen(self, socket: WebSocket) -> None:
        refusal = self._refusal(socket)
        if refusal is not None:
            status, message = refusal
            await socket.send_denial_response(_error(status, message))
            return
        await socket.accept()
        right = key_is_right(request_key(socket), self.settings.keys)
        connection = Connection(socket, self.models, self.settings, self.metrics, authorised=right)
        self._connections.add(connection)
        try:
            await connection.serve()
        finally:
            self._connections.discard(connection)

    def _refusal(self, socket: WebSocket) -> tuple[int, str] | None:
        if self.draining:
            return 503, "the service is shutting down"
        if not origin_is_allowed(socket, self.settings):
            return 403, "pages of this origin may not use the service"
        if len(self._connections) >= self.settings.limits.connections:
            return 503, "too many connections; try again later"
        given = request_key(socket)
        if given is not None and not key_is_right(given, self.settings.keys):
            return 401, "the API key is wrong"
        return None

    async def _alive(self, request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _ready(self, request: Request) -> Response:
        if self.draining:
            return PlainTextResponse("draining\n", 503)
        return PlainTextResponse("ready\n")

    async def _metrics_page(self, request: Request) -> Response:
        return Response(self.metrics.page(), media_type="text/plain; version=0.0.4")

    async def _page(self, request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        ending = name.rpartition(".")[2]
        file = resources.files("dualmode.serving") / "page" / name
        if "/" in name or ending not in _PAGE_TYPES or not file.is_file():
            raise HTTPException(404, "no such page")
        return self._page_file(file.read_bytes(), _PAGE_TYPES[ending])

    async def _offer(self, request: Request) -> Response:
        """What the page can do besides; without a model, so that it needs no key."""
        offer = None if self._browser is None else self._browser.offer()
        return JSONResponse({"browser": offer}, headers=_PAGE_HEADERS)

    async def _engine(self, request: Request) -> Response:
        name = request.path_params["name"]
        if self._browser is None or name not in self._browser.files:
            raise HTTPException(404, "no such page")
        return self._page_file(self._browser.files[name], _PAGE_TYPES[name.rpartition(".")[2]])

    async def _artifact(self, request: Request) -> Response:
        if self._browser is None:
            raise HTTPException(404, "the page of this service does not recognise by itself")
        headers = {"Cache-Control": "no-cache"}
        return Response(self._browser.artifact, 200, headers, "application/octet-stream")

    def _page_file(self, content: bytes, media_type: str) -> Response:
        headers = dict(_PAGE_HEADERS)
        if self._browser is not None:  # a worker is under the policy that it comes with itself
            own = "script-src 'self'"
            policy = _CONTENT_SECURITY.replace(own, f"{own} 'wasm-unsafe-eval'")
            headers["Content-Security-Policy"] = policy
        return Response(content, media_type=media_type, headers=headers)


class _Guard:
    """Checks API key and origin of HTTP requests, except for health checks and the page itself.
    WebSockets check theirs when they start, because browsers cannot send headers with them."""

    _OPEN = ("/healthz", "/readyz")

    def __init__(self, app: Callable[..., Awaitable[None]], service: Service) -> None:
        self._app = app
        self._settings = service.settings

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            request = Request(scope)
            path = request.url.path
            page = path == "/" or path.startswith("/page/")
            if not page and path not in self._OPEN:
                refused = self._refusal(request)
                if refused is not None:
                    await refused(scope, receive, send)
                    return
        await self._app(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        if not origin_is_allowed(request, self._settings):
            return _error(403, "pages of this origin may not use the service")
        if not key_is_right(request_key(request), self._settings.keys):
            return _error(401, "an API key is needed: Authorization: Bearer KEY")
        return None


def _error(status: int, message: str, headers: Any = None) -> Response:
    """An error in OpenAI's format."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    content = {"error": {"message": message, "type": kind, "param": None, "code": None}}
    return JSONResponse(content, status, headers)


def _as_openai(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        return _error(error.status_code, error.detail, error.headers)
    return _error(500, "internal error; see the log of the service")
