"""Who may use a service: API keys, and which pages browsers may call it from."""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from dualmode.serving.settings import Settings


def key_is_right(given: str | None, keys: tuple[str, ...]) -> bool:
    """Whether ``given`` is one of the keys, or none are asked for; takes the same time for all."""
    if not keys:
        return True
    encoded = (given or "").encode()
    # Every key is compared, so that time says nothing.
    matches = [hmac.compare_digest(encoded, key.encode()) for key in keys]
    return any(matches)


def request_key(request: HTTPConnection) -> str | None:
    """The key of an Authorization header."""
    kind, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if kind.lower() == "bearer" else None


def origin_is_allowed(request: HTTPConnection, settings: Settings) -> bool:
    """Whether the page that a browser sends this for is the service's own or an allowed one.

    Programs that are no browsers send no Origin, and need not.
    """
    origin = request.headers.get("origin")
    if origin is None or origin in settings.origins:
        return True
    return urlsplit(origin).netloc == request.headers.get("host")
