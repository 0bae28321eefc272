"""The recogniser of live streams: that of a model, an export of it, or its device in the engine."""

from __future__ import annotations

import tempfile
from importlib.util import find_spec
from pathlib import Path

from dualmode.config import Recipe
from dualmode.decoding.stream import Endpointing
from dualmode.errors import ModelError
from dualmode.model.subnet import Subnet
from dualmode.recognizer import Recognizer
from dualmode.runtime import Runtime, RuntimeModel, load_runtime
from dualmode.serving.lanes import CaptionGroup
from dualmode.text import Tokens


class LiveModel:
    """The network of an export with the tokeniser and the decoding of its model. An artifact of the
    engine has neither a tokeniser nor calibrated confidences.

    Args:
        network: what is exported.
        model: the model that it was exported from.

    Raises:
        ModelError: they have different tokens.
    """

    def __init__(self, network: RuntimeModel, model: RuntimeModel) -> None:
        if list(network.tokens.pieces) != list(model.tokens.pieces):
            raise ModelError("the export for live streams has other tokens than its model")
        self.network = network
        self.tokens: Tokens = model.tokens
        given = network.recipe.decoding.blank_penalty
        decoding = model.recipe.decoding.model_copy(update={"blank_penalty": given})
        changes = {"text": model.recipe.text, "decoding": decoding}
        self.recipe: Recipe = network.recipe.model_copy(update=changes)

    def check(self, subnet: Subnet) -> None:
        """See :class:`~dualmode.runtime.RuntimeModel`."""
        self.network.check(subnet)

    def open(self, subnet: Subnet) -> Runtime:
        """See :class:`~dualmode.runtime.RuntimeModel`."""
        return self.network.open(subnet)

    def keep_only(self, subnet: Subnet) -> None:
        """See :class:`~dualmode.runtime.RuntimeModel`."""
        self.network.keep_only(subnet)


def load_live(path: Path, recognizer: Recognizer) -> Recognizer:
    """Load an export of the model of ``recognizer`` for its live streams.

    Raises:
        ModelError: it cannot be loaded, or is of another model.
    """
    return Recognizer(LiveModel(load_runtime(path), recognizer.model))


def device_in_engine(recognizer: Recognizer) -> Recognizer | None:
    """Export device to the engine, for live streams; None if the engine is not installed, or if the
    recogniser is not a model directory with device."""
    if find_spec("dualmode_engine") is None or find_spec("torch") is None:
        return None
    from dualmode.runtime.pytorch import TorchModel

    model = recognizer.model
    if not isinstance(model, TorchModel) or "device" not in recognizer.recipe.training.subnets:
        return None
    from dualmode.export.engine import engine_artifact
    from dualmode.model.directory import LoadedModel

    loaded = LoadedModel(model.model, model.recipe, model.tokens)
    artifact = engine_artifact(loaded, loaded.device_subnet)
    # The engine maps the file, which may be deleted after that.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "device.dual"
        artifact.write(path)
        return load_live(path, recognizer)


def caption_group(recognizer: Recognizer, endpointing: Endpointing) -> CaptionGroup:
    """A group of live streams: by the engine as a whole if it has the network of ``recognizer``,
    otherwise with features and search in Python.

    Raises:
        SubnetError: the recogniser has no device.
        ModelError: the engine that is installed is too old.
    """
    model = recognizer.model
    network = model.network if isinstance(model, LiveModel) else model
    if find_spec("dualmode_engine") is not None:
        from dualmode.runtime.engine import EngineModel
        from dualmode.serving.engine_group import EngineGroup

        if isinstance(network, EngineModel):
            recognizer.subnet("device")
            return EngineGroup(
                network.artifact, endpointing, recognizer.tail_s, recognizer.calibration
            )
    return recognizer.stream_group("device", endpointing=endpointing, keep_finished=False)
