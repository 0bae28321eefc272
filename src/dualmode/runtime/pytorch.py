"""The runtime ``torch``: every subnet of a model directory, on CPU or CUDA."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dualmode.config import Recipe
from dualmode.errors import SubnetError
from dualmode.features import Framing
from dualmode.model.directory import load_model
from dualmode.model.encoder import EncoderState
from dualmode.model.subnet import Context, Subnet
from dualmode.model.supernet import Supernet
from dualmode.runtime import Floats, Ids, State
from dualmode.text import Tokens

CHUNKS_A_STEP = 32  # limits memory when a lot of audio is pushed at once


class TorchModel:
    """A supernet that opens any of its subnets.

    Args:
        model: the supernet, which is put into evaluation mode.
    """

    def __init__(self, model: Supernet, tokens: Tokens, recipe: Recipe) -> None:
        self.model = model.eval()
        self.tokens = tokens
        self.recipe = recipe
        self._only: Subnet | None = None
        self._pruned: dict[int, Supernet] = {}

    def check(self, subnet: Subnet) -> None:
        """See :class:`~dualmode.runtime.RuntimeModel`."""
        if self._only is not None and subnet.sparsity != self._only.sparsity:
            raise SubnetError(
                f"only the weights of sparsity {self._only.sparsity:g} are in memory, not those of "
                f"{subnet.sparsity:g}: load the model again"
            )
        self.model.active_weights(subnet)

    def open(self, subnet: Subnet) -> TorchRuntime:
        """See :class:`~dualmode.runtime.RuntimeModel`.

        A sparse subnet has copies of its pruned weights, already masked, so that no step has to
        mask them; all other weights are shared with the dense subnet.
        """
        self.check(subnet)
        mask = self.model.active_weights(subnet).mask
        dense = replace(subnet, sparsity=0.0)
        if mask is None or self._only is not None:
            return TorchRuntime(self.model, dense)
        if mask not in self._pruned:
            self._pruned[mask] = pruned_copy(self.model, mask)
        return TorchRuntime(self._pruned[mask], dense)

    def keep_only(self, subnet: Subnet) -> None:
        """Zero the pruned blocks of ``subnet`` in place, and free copies of the weights."""
        self.check(subnet)
        mask = self.model.active_weights(subnet).mask
        if self._only is None and mask is not None:
            _prune(self.model, mask)
        self._only = subnet
        self._pruned.clear()


class TorchRuntime:
    """One subnet of a supernet whose weights are already masked."""

    chunks_a_step = CHUNKS_A_STEP

    def __init__(self, model: Supernet, subnet: Subnet) -> None:
        self.model = model
        self.subnet = subnet
        self._scorer = model.scorer(subnet)
        self._device = model.encoder.norm.gain.device

    @property
    def context(self) -> Context:
        return self.subnet.context

    @property
    def framing(self) -> Framing:
        return self.model.encoder.framing

    @property
    def context_tokens(self) -> int:
        return self._scorer.context_tokens

    @torch.inference_mode()
    def predict(self, context: Ids) -> Floats:
        """See :class:`~dualmode.runtime.Scorer`."""
        return _array(self._scorer.predict(self._tensor(context)))

    @torch.inference_mode()
    def score(self, frames: Floats, predictions: Floats) -> Floats:
        """See :class:`~dualmode.runtime.Scorer`."""
        return _array(self._scorer.score(self._tensor(frames), self._tensor(predictions)))

    @torch.inference_mode()
    def encode(self, mels: Floats, lengths: Ids) -> tuple[Floats, Ids]:
        """See :class:`~dualmode.runtime.Runtime`."""
        frames, counts = self.model.recognize(
            self._tensor(mels), self._tensor(lengths), self.subnet
        )
        return _array(frames), counts.cpu().numpy()

    def initial_state(self, batch: int) -> State:
        """See :class:`~dualmode.runtime.Runtime`."""
        return self.model.initial_state(batch, self.subnet).flat()

    @torch.inference_mode()
    def step(self, mels: Floats, counts: Ids, state: State) -> tuple[Floats, State]:
        """See :class:`~dualmode.runtime.Runtime`; the state contains tensors on the model's
        device."""
        frames, after = self.model.stream(
            self._tensor(mels), self._tensor(counts), EncoderState.from_flat(state), self.subnet
        )
        return _array(frames), after.flat()

    @torch.inference_mode()
    def join(self, states: Sequence[State]) -> State:
        """See :class:`~dualmode.runtime.Runtime`."""
        if len(states) == 1:
            return states[0]
        return tuple(torch.cat(tensors) for tensors in zip(*states, strict=True))

    @torch.inference_mode()
    def split(self, state: State) -> list[State]:
        """See :class:`~dualmode.runtime.Runtime`."""
        if len(state[0]) == 1:
            return [state]
        return [tuple(t[row : row + 1].clone() for t in state) for row in range(len(state[0]))]

    def _tensor(self, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Tensor:
        return torch.from_numpy(array).to(self._device)


def load(path: Path, device: str = "cpu") -> TorchModel:
    """Load a model directory.

    Raises:
        ModelError: the directory is missing, incomplete or corrupt, or the device does not exist.
    """
    loaded = load_model(path, device=device)
    return TorchModel(loaded.model, loaded.tokens, loaded.recipe)


def pruned_copy(model: Supernet, mask: int) -> Supernet:
    """A supernet with masked weights; weights that are never pruned are shared."""
    prunable = {id(layer.weight) for layer in model.prunable()}
    tensors = (*model.parameters(), *model.buffers())
    shared = {id(tensor): tensor for tensor in tensors if id(tensor) not in prunable}
    pruned = copy.deepcopy(model, memo=dict(shared))
    _prune(pruned, mask)
    return pruned.eval()


def _prune(model: Supernet, mask: int) -> None:
    with torch.no_grad():
        for layer in model.prunable():
            layer.weight.copy_(layer.effective_weight(mask))


def _array(tensor: Tensor) -> Floats:
    array: Floats = tensor.float().cpu().numpy()
    return array
