"""Streams that know what their clients expect: phrases, hotwords, the written form."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from dualmode.decoding.guidance import Guidance
from dualmode.decoding.stream import Endpointing
from dualmode.decoding.transcript import in_writing
from dualmode.errors import LanguageError
from dualmode.recognizer import Recognizer
from dualmode.serving.lanes import CaptionGroup


@dataclass(frozen=True)
class Guided:
    """Compiled guidance of a stream.

    Attributes:
        name: the same for the same guidance.
        group: a new group for live streams with it.
        guidance: for second passes.
    """

    name: str
    group: CaptionGroup
    guidance: Guidance


class Guide:
    """Compiles guidance in a thread of its own, so that neither captions nor connections wait.

    Args:
        live: recogniser of live streams, with a tokeniser.
    """

    def __init__(self, live: Recognizer, endpointing: Endpointing) -> None:
        self._live = live
        self._endpointing = endpointing
        self.thread = ThreadPoolExecutor(1, "guidance")

    def compile(self, given: Guidance, written: bool) -> Guided | None:
        """Compile phrases and hotwords; None if there are none.

        Raises:
            LanguageError: they are invalid, or a package for the written form is missing.
            ModelError: the model has no tokeniser.
        """
        if written:
            in_writing(())
        if not given:
            return None
        guidance = given.copy()
        try:
            if (phrases := given.get("phrases")) is not None:
                assert isinstance(phrases, list)  # as the protocol has checked
                guidance["phrases"] = self._live.compile_phrases(phrases)
            group = self._live.stream_group(
                "device", endpointing=self._endpointing, keep_finished=False, **guidance
            )
        except RecursionError:
            raise LanguageError("the grammar is nested too deeply") from None
        return Guided(json.dumps(given, sort_keys=True), group, guidance)

    def stop(self) -> None:
        """End the thread."""
        self.thread.shutdown()
