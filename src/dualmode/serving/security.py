"""Access control of the service: API keys and allowed origins."""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from dualmode.serving.settings import Settings


def key_is_right(given: str | None, keys: tuple[str, ...]) -> bool:
    """Whether ``given`` is one of the keys, or none is required. Runs in constant time."""
    if not keys:
        return True
    encoded = (given or "").encode()
    # Every key is compared, so that the time reveals nothing.
    matches = [hmac.compare_digest(encoded, key.encode()) for key in keys]
    return any(matches)


def request_key(request: HTTPConnection) -> str | None:
    """The API key in the Authorization header, or None."""
    kind, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if kind.lower() == "bearer" else None


def origin_is_allowed(request: HTTPConnection, settings: Settings) -> bool:
    """Whether a request's page is the service's own or has an allowed origin.

    Programs other than browsers send no Origin header and are allowed.
    """
    origin = request.headers.get("origin")
    if origin is None or origin in settings.origins:
        return True
    return urlsplit(origin).netloc == request.headers.get("host")
