"""Metrics of the service, for Prometheus."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 12.0)


class Metrics:
    """The metrics of one service, in their own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self.registry, "namespace": "dualmode"}
        self.connections = Gauge("connections", "Open WebSocket connections.", **own)
        self.streams = Gauge("streams", "Live streams.", **own)
        self.waiting_segments = Gauge("waiting_segments", "Segments waiting for server.", **own)
        self.uploads = Gauge("uploads", "Uploaded files waiting or being recognised.", **own)
        self.audio = Counter("audio_seconds", "Audio recognised.", ["recogniser"], **own)
        self.busy = Counter(
            "busy_seconds",
            "Time spent recognising; divided by audio_seconds, the real-time factor.",
            ["recogniser"],
            **own,
        )
        self.closed = Counter("closed", "Connections closed, by code.", ["code"], **own)
        self.batch = Histogram(
            "step_streams", "Streams per step.", buckets=(1, 2, 4, 8, 16, 32, 64), **own
        )
        self.step_time = Histogram(
            "step_seconds", "Duration of a step of device.", buckets=_SECONDS, **own
        )
        self.caption_delay = Histogram(
            "caption_delay_seconds",
            "Time from the arrival of a caption's newest audio until it is sent.",
            buckets=_SECONDS,
            **own,
        )
        self.revision_delay = Histogram(
            "revision_delay_seconds",
            "Time from the end of a segment to its text by server.",
            buckets=_SECONDS,
            **own,
        )

    def step(self, seconds: float, streams: int) -> None:
        """Record a step of device over ``streams`` streams."""
        self.busy.labels("device").inc(seconds)
        self.step_time.observe(seconds)
        self.batch.observe(streams)

    def revised(self, seconds: float, delays: Sequence[float]) -> None:
        """Record a batch of second passes and the delay of each of its segments, in seconds."""
        self.busy.labels("server").inc(seconds)
        for delay in delays:
            self.revision_delay.observe(delay)

    def page(self) -> bytes:
        """All metrics in Prometheus's text format."""
        return generate_latest(self.registry)
