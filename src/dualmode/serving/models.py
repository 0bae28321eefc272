"""The models of a service, each with its threads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dualmode.decoding.stream import Endpointing
from dualmode.errors import DualmodeError
from dualmode.features import Framing
from dualmode.model.subnet import Subnet, chunked_context
from dualmode.recognizer import Recognizer
from dualmode.serving.guided import Guide
from dualmode.serving.lanes import CaptionLane, RevisionLane
from dualmode.serving.live_recognizer import caption_group
from dualmode.serving.metrics import Metrics


@dataclass(frozen=True)
class ServedModel:
    """A model that a service offers.

    Attributes:
        name: name by which clients select it.
        recognizer: recogniser of files and second passes.
        live: recogniser of captions; the same, or one of another runtime.
        captions: thread of device.
        revisions: thread of server; None if the model has no server.
        guide: compiles phrases and hotwords.
    """

    name: str
    recognizer: Recognizer
    live: Recognizer
    captions: CaptionLane
    revisions: RevisionLane | None
    guide: Guide

    @property
    def recognisers(self) -> tuple[str, ...]:
        """``device``, and ``server`` if the model has one."""
        return ("device",) if self.revisions is None else ("device", "server")

    def describe(self) -> dict[str, Any]:
        """Description for clients."""
        device = describe_device(self.live.subnet("device"), self.live.framing)
        return {"recognisers": list(self.recognisers), **device}

    def stop(self) -> None:
        """End the threads."""
        self.guide.stop()
        self.captions.stop()
        if self.revisions is not None:
            self.revisions.stop()


def describe_device(subnet: Subnet, framing: Framing) -> dict[str, Any]:
    """Description of a streaming recogniser for clients."""
    context = chunked_context(subnet)
    return {
        "chunk_ms": context.chunk * framing.frame_ms,
        "lookahead_ms": context.lookahead * framing.frame_ms,
        "sparsity": subnet.sparsity,
    }


class Models:
    """All models of a service, by name; the first is the default.

    Args:
        live: recognisers of the live streams of models, by name, in place of their own.
    """

    def __init__(
        self,
        recognizers: Sequence[tuple[str, Recognizer]],
        endpointing: Endpointing,
        metrics: Metrics,
        live: Mapping[str, Recognizer] | None = None,
    ) -> None:
        self._models: dict[str, ServedModel] = {}
        for name, recognizer in recognizers:
            if name in self._models:
                raise DualmodeError(f"two models are named {name!r}: rename the folder of one")
            trained = recognizer.recipe.training.subnets
            revisions = RevisionLane(recognizer, metrics) if "server" in trained else None
            speaking = (live or {}).get(name, recognizer)
            captions = CaptionLane(caption_group(speaking, endpointing), metrics)
            guide = Guide(speaking, endpointing)
            self._models[name] = ServedModel(name, recognizer, speaking, captions, revisions, guide)

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._models.values())

    def get(self, name: str | None) -> ServedModel | None:
        """A model by name; None selects the first. Returns None if there is no such model."""
        if name is None:
            return next(iter(self._models.values()))
        return self._models.get(name)

    def recogniser(self, asked: str) -> tuple[ServedModel, str] | None:
        """Resolve ``server``, ``device`` or ``MODEL/server`` to a model and the subnet's name."""
        name, _, subnet = asked.rpartition("/")
        model = self.get(name or None)
        if model is None or subnet not in model.recognisers:
            return None
        return model, subnet

    def ids(self) -> list[str]:
        """All names that :meth:`recogniser` accepts."""
        first = next(iter(self))
        return [
            *first.recognisers,
            *(f"{model.name}/{subnet}" for model in self for subnet in model.recognisers),
        ]

    def stop(self) -> None:
        """End all threads."""
        for model in self:
            model.stop()
