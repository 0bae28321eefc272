"""The torch runtime: masks, sharing of weights, states that stack, and the seam's promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dualmode.errors import ModelError, SubnetError
from dualmode.model.subnet import SERVER, ChunkedContext, Subnet
from dualmode.runtime import load_runtime
from dualmode.runtime.arrays import encode_by_steps, join_arrays, log_softmax, split_arrays
from dualmode.runtime.pytorch import TorchModel, TorchRuntime, load

pytestmark = pytest.mark.usefixtures("one_thread")

DEVICE = Subnet(ChunkedContext(4, 8, 2), 0.5)


def random_mels(seed: int, *lengths: int) -> tuple[np.ndarray, np.ndarray]:
    mels = np.random.default_rng(seed).standard_normal((len(lengths), max(lengths), 80)) - 6
    counts = np.array(lengths)
    mels[np.arange(mels.shape[1]) >= counts[:, None]] = 0
    return mels.astype(np.float32), counts


def test_a_sparse_runtime_computes_what_the_masks_do(model: TorchModel) -> None:
    mels, lengths = random_mels(0, 60, 41)
    masked = TorchRuntime(model.model, DEVICE)
    opened = model.open(DEVICE)
    dense = model.open(Subnet(DEVICE.context))
    assert np.array_equal(masked.encode(mels, lengths)[0], opened.encode(mels, lengths)[0])
    assert not np.allclose(
        masked.encode(mels, lengths)[0], dense.encode(mels, lengths)[0], atol=1e-3
    )
    context = np.array([[3, 4]])
    assert np.array_equal(masked.predict(context), opened.predict(context))


def test_sparse_weights_share_what_is_never_pruned(model: TorchModel) -> None:
    dense, sparse = model.open(SERVER).model, model.open(DEVICE).model
    pruned = {id(layer.weight) for layer in dense.prunable()}
    for ours, theirs in zip(dense.parameters(), sparse.parameters(), strict=True):
        assert (ours is theirs) == (id(ours) not in pruned)
    assert all(a is b for a, b in zip(dense.buffers(), sparse.buffers(), strict=True))


def test_keep_only_holds_the_weights_once(talkative_model: Path) -> None:
    model, whole = load(talkative_model), load(talkative_model)
    mels, lengths = random_mels(1, 50)
    expected, _ = whole.open(DEVICE).encode(mels, lengths)
    model.keep_only(DEVICE)
    runtime = model.open(DEVICE)
    assert runtime.model is model.model
    assert np.array_equal(runtime.encode(mels, lengths)[0], expected)
    other = model.open(Subnet(ChunkedContext(2, 4, 0), 0.5))
    assert other.model is model.model
    with pytest.raises(SubnetError, match=r"only the weights of sparsity 0\.5"):
        model.open(SERVER)


@settings(max_examples=15, deadline=None)
@given(
    st.builds(ChunkedContext, st.integers(1, 6), st.integers(0, 9), st.integers(0, 4)),
    st.lists(st.integers(0, 120), min_size=1, max_size=4),
    st.booleans(),
)
def test_steps_give_the_frames_of_encode(
    model: TorchModel,
    model_80ms: TorchModel,
    context: ChunkedContext,
    lengths: list[int],
    long: bool,
) -> None:
    runtime = (model_80ms if long else model).open(Subnet(context, 0.5))
    assert runtime.framing.frame_ms == (80 if long else 40)
    mels, counts = random_mels(2, *lengths)
    streamed, stepped = encode_by_steps(runtime, mels, counts)
    frames, whole = runtime.encode(mels, counts)
    assert stepped.tolist() == whole.tolist() == [runtime.framing.frames(n) for n in lengths]
    for row, count in enumerate(whole.tolist()):
        assert np.allclose(streamed[row, :count], frames[row, :count], atol=1e-4)


def test_states_join_and_split_with_pasts_of_different_lengths(model: TorchModel) -> None:
    runtime, context = model.open(DEVICE), DEVICE.context
    assert isinstance(context, ChunkedContext)
    mels, _ = random_mels(3, 200, 200)
    full = np.array([context.window])

    def window(row: int, chunk: int) -> np.ndarray:
        start = 4 * context.chunk * chunk
        return mels[row : row + 1, start : start + 4 * context.window + 3]

    alone, states = [], []
    for row, behind in ((0, 3), (1, 0)):
        state = runtime.initial_state(1)
        for chunk in range(behind):
            _, state = runtime.step(window(row, chunk), full, state)
        before = [tensor.clone() for tensor in state]
        frames, after = runtime.step(window(row, behind), full, state)
        assert all(map(torch.equal, before, state)), "a state is never written into"
        alone.append((frames, after))
        states.append(state)
    joined = runtime.join(states)
    assert all(tensor.shape[0] == 2 for tensor in joined)
    frames, after = runtime.step(
        np.concatenate([window(0, 3), window(1, 0)]), np.repeat(full, 2), joined
    )
    for row, (expected, state) in enumerate(alone):
        assert np.allclose(frames[row], expected[0], atol=1e-5)
        for ours, theirs in zip(runtime.split(after)[row], state, strict=True):
            assert torch.allclose(ours, theirs, atol=1e-5)
            assert ours.untyped_storage().nbytes() == theirs.numel() * theirs.element_size()


def test_numpy_states_join_and_split() -> None:
    states = [(np.full((1, 3), row), np.full((1,), row)) for row in range(3)]
    joined = join_arrays(states)
    assert joined[0].shape == (3, 3)
    for ours, theirs in zip(split_arrays(joined), states, strict=True):
        assert all(map(np.array_equal, ours, theirs))
        assert all(array.base is None for array in ours)


def test_log_softmax_is_that_of_torch() -> None:
    logits = np.random.default_rng(0).normal(scale=30, size=(4, 9)).astype(np.float32)
    expected = torch.from_numpy(logits).log_softmax(-1).numpy()
    assert np.allclose(log_softmax(logits), expected, atol=1e-5)


def test_full_context_cannot_stream_and_unknown_runtimes_are_named(
    model: TorchModel, talkative_model: Path
) -> None:
    with pytest.raises(SubnetError, match="stream with device"):
        model.open(SERVER).initial_state(1)
    with pytest.raises(ModelError, match="no runtime 'abacus': choose one of torch"):
        load_runtime(talkative_model, "abacus")
