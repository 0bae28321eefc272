"""What a service counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 12.0)


class Metrics:
    """The counters of one service; each service has a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self.registry, "namespace": "dualmode"}
        self.connections = Gauge("connections", "Open WebSocket connections.", **own)
        self.streams = Gauge("streams", "Live streams.", **own)
        self.waiting_segments = Gauge("waiting_segments", "Segments that wait for server.", **own)
        self.uploads = Gauge("uploads", "Uploaded files that wait or are recognised.", **own)
        self.audio = Counter("audio_seconds", "Audio recognised.", ["recogniser"], **own)
        self.busy = Counter(
            "busy_seconds",
            "Time spent recognising; over audio_seconds it is the real-time factor.",
            ["recogniser"],
            **own,
        )
        self.closed = Counter("closed", "Connections closed, by code.", ["code"], **own)
        self.batch = Histogram(
            "step_streams", "Streams of a step.", buckets=(1, 2, 4, 8, 16, 32, 64), **own
        )
        self.step_time = Histogram("step_seconds", "A step of device.", buckets=_SECONDS, **own)
        self.caption_delay = Histogram(
            "caption_delay_seconds",
            "From the arrival of the newest audio behind a caption to its sending.",
            buckets=_SECONDS,
            **own,
        )
        self.revision_delay = Histogram(
            "revision_delay_seconds",
            "From the end of a segment to server's text of it.",
            buckets=_SECONDS,
            **own,
        )

    def step(self, seconds: float, streams: int) -> None:
        """A step of device over so many streams."""
        self.busy.labels("device").inc(seconds)
        self.step_time.observe(seconds)
        self.batch.observe(streams)

    def revised(self, seconds: float, delays: Sequence[float]) -> None:
        """A batch of second passes, and how long each segment waited for it."""
        self.busy.labels("server").inc(seconds)
        for delay in delays:
            self.revision_delay.observe(delay)

    def page(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)
