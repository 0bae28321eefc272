"""Properties of the transducer loss, against enumeration and an independent recursion."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dualmode.losses.joint import gathered_log_probs, simple_log_probs
from dualmode.losses.lattice import IMPOSSIBLE, effective_band, lattice_loss, pruning_bounds
from dualmode.losses.transducer_loss import (
    TransducerLoss,
    band_log_probs,
    full_transducer_loss,
    pruned_transducer_loss,
)

few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 10_000)

LEAVES = ("frames", "predictions", "simple_frames", "simple_predictions", "output")


@dataclass
class Problem:
    """A random batch with the weights of a small tanh joiner."""

    frames: Tensor
    predictions: Tensor
    simple_frames: Tensor
    simple_predictions: Tensor
    output: Tensor
    targets: Tensor
    frame_lengths: Tensor
    token_lengths: Tensor

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        return tuple(getattr(self, name) for name in LEAVES)

    def join(self, frames: Tensor, predictions: Tensor) -> Tensor:
        return (frames + predictions).tanh() @ self.output

    def logits(self) -> Tensor:
        return self.join(self.frames[:, :, None], self.predictions[:, None])

    def simple_logits(self) -> Tensor:
        return self.simple_frames[:, :, None] + self.simple_predictions[:, None]

    def pruned(self, **options: object) -> TransducerLoss:
        return pruned_transducer_loss(
            self.frames,
            self.predictions,
            self.join,
            self.simple_frames,
            self.simple_predictions,
            self.targets,
            self.frame_lengths,
            self.token_lengths,
            **{"reduction": "none", **options},  # type: ignore[arg-type]
        )

    def full(self, reduction: str = "none") -> Tensor:
        return full_transducer_loss(
            self.logits(),
            self.targets,
            self.frame_lengths,
            self.token_lengths,
            reduction,  # type: ignore[arg-type]
        )

    def gradients(self, loss: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(loss.sum(), self.leaves, allow_unused=True)

    def utterance(self, index: int) -> Problem:
        """One utterance without padding; the leaves are views of this problem's."""
        one = slice(index, index + 1)
        frames, tokens = int(self.frame_lengths[index]), int(self.token_lengths[index])
        return Problem(
            frames=self.frames[one, :frames],
            predictions=self.predictions[one, : tokens + 1],
            simple_frames=self.simple_frames[one, :frames],
            simple_predictions=self.simple_predictions[one, : tokens + 1],
            output=self.output,
            targets=self.targets[one, :tokens],
            frame_lengths=self.frame_lengths[one],
            token_lengths=self.token_lengths[one],
        )


def make(
    seed: int,
    frame_lengths: list[int],
    token_lengths: list[int],
    *,
    vocabulary: int = 5,
    width: int = 3,
    scale: float = 1.0,
    dtype: torch.dtype = torch.float64,
) -> Problem:
    generator = torch.Generator().manual_seed(seed)
    batch, frames, tokens = len(frame_lengths), max(frame_lengths), max(token_lengths)

    def leaf(*shape: int) -> Tensor:
        values = scale * torch.randn(shape, generator=generator, dtype=torch.float64)
        return values.to(dtype).requires_grad_()

    return Problem(
        frames=leaf(batch, frames, width),
        predictions=leaf(batch, tokens + 1, width),
        simple_frames=leaf(batch, frames, vocabulary),
        simple_predictions=leaf(batch, tokens + 1, vocabulary),
        output=leaf(width, vocabulary),
        targets=torch.randint(1, vocabulary, (batch, tokens), generator=generator),
        frame_lengths=torch.tensor(frame_lengths),
        token_lengths=torch.tensor(token_lengths),
    )


@st.composite
def ragged(draw: st.DrawFn, frames: int = 5, tokens: int = 4) -> Problem:
    batch = draw(st.integers(1, 3))
    return make(
        draw(seeds),
        draw(st.lists(st.integers(1, frames), min_size=batch, max_size=batch)),
        draw(st.lists(st.integers(0, tokens), min_size=batch, max_size=batch)),
    )


def enumerated(
    log_probs: Tensor, targets: list[int], starts: list[int] | None = None, band: int = 99
) -> float:
    """Loss of one utterance, log_probs (T, U + 1, V), by listing its alignments one by one."""
    frames = log_probs.shape[0]
    starts = starts or [0] * frames
    total = 0.0
    moves = frames - 1 + len(targets)
    for blanks in combinations(range(moves), frames - 1):
        time, position, score, within = 0, 0, 0.0, True
        for move in [*range(moves), None]:
            within &= starts[time] <= position < starts[time] + band
            if move is None:
                score += float(log_probs[time, position, 0])
            elif move in blanks:
                score += float(log_probs[time, position, 0])
                time += 1
            else:
                score += float(log_probs[time, position, targets[position]])
                position += 1
        total += math.exp(score) if within else 0.0
    return -math.log(total)


def enumerated_batch(logits: Tensor, problem: Problem, pruned: TransducerLoss | None) -> Tensor:
    losses = []
    for index, (frames, tokens) in enumerate(
        zip(problem.frame_lengths.tolist(), problem.token_lengths.tolist(), strict=True)
    ):
        log_probs = logits[index, :frames, : tokens + 1].detach().log_softmax(-1)
        targets = problem.targets[index, :tokens].tolist()
        if pruned is None:
            losses.append(enumerated(log_probs, targets))
        else:
            band = pruned.token_log_probs.shape[2]
            losses.append(enumerated(log_probs, targets, pruned.starts[index].tolist(), band))
    return torch.tensor(losses, dtype=logits.dtype)


def double_loop(logits: Tensor, targets: Tensor) -> Tensor:
    """Loss of one utterance by the textbook recursion, differentiated by autograd."""
    log_probs = logits.log_softmax(-1)
    frames, positions, _ = logits.shape
    alpha: dict[tuple[int, int], Tensor] = {}
    for time in range(frames):
        for u in range(positions):
            arriving = []
            if time > 0:
                arriving.append(alpha[time - 1, u] + log_probs[time - 1, u, 0])
            if u > 0:
                arriving.append(alpha[time, u - 1] + log_probs[time, u - 1, targets[u - 1]])
            alpha[time, u] = (
                torch.stack(arriving).logsumexp(0) if arriving else log_probs.new_zeros(())
            )
    return -(alpha[frames - 1, positions - 1] + log_probs[frames - 1, positions - 1, 0])


def test_hand_computed_value() -> None:
    # Two frames, one token, every choice has probability 1/2: two alignments of three moves.
    loss = full_transducer_loss(
        torch.zeros(1, 2, 2, 2), torch.tensor([[1]]), torch.tensor([2]), torch.tensor([1])
    )
    assert loss.item() == pytest.approx(-math.log(2 * 0.5**3))


@few
@given(ragged())
def test_full_loss_sums_over_all_alignments(problem: Problem) -> None:
    logits = problem.logits()
    torch.testing.assert_close(problem.full(), enumerated_batch(logits, problem, None))


@few
@given(ragged(), st.integers(1, 4))
def test_pruned_loss_sums_over_the_alignments_in_its_band(problem: Problem, band: int) -> None:
    pruned = problem.pruned(band=band)
    torch.testing.assert_close(pruned.pruned, enumerated_batch(problem.logits(), problem, pruned))
    torch.testing.assert_close(
        pruned.simple, enumerated_batch(problem.simple_logits(), problem, None)
    )


def test_full_gradient_matches_autograd_through_a_double_loop() -> None:
    problem = make(3, [7, 4, 1], [3, 5, 0])
    expected = []
    for index in range(3):
        one = problem.utterance(index)
        expected.append(double_loop(one.logits()[0], one.targets[0]))
    losses = problem.full()
    torch.testing.assert_close(losses, torch.stack(expected))
    weights = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    leaves = (problem.frames, problem.predictions, problem.output)
    actual = torch.autograd.grad((losses * weights).sum(), leaves)
    reference = torch.autograd.grad((torch.stack(expected) * weights).sum(), leaves)
    torch.testing.assert_close(actual, reference)


@pytest.mark.parametrize("banded", [False, True])
def test_gradcheck_of_the_recursion(banded: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    token, blank = (
        (torch.randn(2, 5, 3, generator=generator, dtype=torch.float64) - 1).requires_grad_()
        for _ in range(2)
    )
    starts = torch.tensor([[0, 1, 1, 3, 3], [0, 0, 0, 9, 9]]) if banded else None
    lengths = torch.tensor([5, 3]), torch.tensor([5, 2] if banded else [2, 1])

    def loss(token: Tensor, blank: Tensor) -> Tensor:
        return lattice_loss(token, blank, *lengths, starts)[0]

    assert torch.autograd.gradcheck(loss, (token, blank))


@pytest.mark.parametrize("band", [1, 2, 9])
def test_gradcheck_of_the_pruned_loss(band: int) -> None:
    problem = make(1, [3, 2], [2, 1], vocabulary=3, width=2)
    starts = problem.pruned(band=band).starts

    def losses(*leaves: Tensor) -> tuple[Tensor, ...]:
        changed = replace(problem, **dict(zip(LEAVES, leaves, strict=True)))
        loss = changed.pruned(band=band, starts=starts)
        probabilities = loss.token_log_probs.exp(), loss.blank_log_probs.exp()
        return loss.simple, loss.pruned, *probabilities

    assert torch.autograd.gradcheck(losses, problem.leaves)


def test_gradcheck_of_the_full_loss() -> None:
    problem = make(2, [3, 2], [2, 1], vocabulary=3)
    logits = problem.logits().detach().requires_grad_()
    lengths = problem.frame_lengths, problem.token_lengths
    assert torch.autograd.gradcheck(
        lambda scores: full_transducer_loss(scores, problem.targets, *lengths, "none"), (logits,)
    )


@few
@given(ragged(frames=6, tokens=5))
def test_posteriors_are_probabilities_of_passing_a_node(problem: Problem) -> None:
    token, blank = gathered_log_probs(
        problem.logits().detach(),
        torch.ones(problem.logits().shape[:3], dtype=torch.int64),
        None,
    )
    lengths = problem.frame_lengths, problem.token_lengths
    _, occupancy = lattice_loss(token, blank, *lengths)
    for row, frames, tokens in zip(occupancy, *(each.tolist() for each in lengths), strict=True):
        assert row[0, 0].item() == pytest.approx(1.0)
        assert row[frames - 1, tokens].item() == pytest.approx(1.0)
        # An alignment visits frames + tokens nodes, and none in the padding.
        assert row.sum().item() == pytest.approx(frames + tokens)
        assert row[:frames, : tokens + 1].sum().item() == pytest.approx(frames + tokens)


@few
@given(ragged(), st.integers(1, 6))
def test_pruned_is_full_on_a_full_band_and_never_below(problem: Problem, band: int) -> None:
    full = problem.full()
    pruned = problem.pruned(band=band).pruned
    assert (pruned >= full - 1e-9).all()
    whole = problem.pruned(band=problem.targets.shape[1] + 1)
    torch.testing.assert_close(whole.pruned, full)
    assert not whole.starts.any()
    for actual, expected in zip(
        problem.gradients(whole.pruned), problem.gradients(full), strict=True
    ):
        torch.testing.assert_close(actual, expected)


def test_pruned_is_close_to_full_when_both_joiners_see_the_alignment() -> None:
    frames, tokens = 40, 16
    problem = make(5, [frames], [tokens], vocabulary=tokens + 1, width=tokens + 1, scale=0.1)
    problem.targets = torch.arange(1, tokens + 1)[None]
    with torch.no_grad():
        # Blank wins by 9 nats, but the next token does so on the one frame that shows it.
        problem.simple_frames[0, :, 0] += 27
        for position, token in enumerate(problem.targets[0].tolist()):
            problem.simple_predictions[0, position, token] += 18
            problem.simple_frames[0, 2 * position + 4, token] += 18
    problem.frames, problem.predictions = problem.simple_frames, problem.simple_predictions
    problem.join = lambda frames, predictions: frames + predictions  # type: ignore[method-assign]

    full = problem.full()
    assert full < 0.1
    for band in (2, 5):
        torch.testing.assert_close(problem.pruned(band=band).pruned, full, rtol=0, atol=0.01)
    too_early = torch.arange(frames).clamp(max=tokens - 1)[None]
    assert problem.pruned(band=2, starts=too_early).pruned > full + 5


@few
@given(seeds, st.integers(1, 7), st.floats(0.1, 30.0), st.booleans())
def test_bounds_always_leave_a_path(seed: int, band: int, peak: float, peaky: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    frame_lengths = torch.randint(1, 12, (4,), generator=generator)
    token_lengths = torch.randint(0, 9, (4,), generator=generator)
    shape = (4, 12, 11)
    occupancy = torch.rand(shape, generator=generator)
    if peaky:
        occupancy = (peak * torch.randn(shape, generator=generator)).softmax(2)
    width = effective_band(band, frame_lengths, token_lengths)
    assert width <= token_lengths.max() + 1
    starts = pruning_bounds(occupancy, frame_lengths, token_lengths, width)
    for row, frames, tokens in zip(
        starts, frame_lengths.tolist(), token_lengths.tolist(), strict=True
    ):
        valid = row[:frames]
        assert valid[0] == 0
        assert ((valid.diff() >= 0) & (valid.diff() < max(width, 1))).all()
        assert valid[-1] <= tokens < valid[-1] + width
        assert (valid <= max(tokens - width + 1, 0)).all()


def test_bounds_follow_the_mass() -> None:
    frames, tokens = 20, 9
    path = torch.tensor([0] * 5 + list(range(10)) + [9] * 5)
    occupancy = torch.zeros(1, frames, tokens + 1)
    occupancy[0, torch.arange(frames), path] = 1.0
    starts = pruning_bounds(occupancy, torch.tensor([frames]), torch.tensor([tokens]), 3)[0]
    assert ((starts <= path) & (path < starts + 3)).all()
    # One stray frame must not drag its neighbours along.
    occupancy[0, 2] = torch.nn.functional.one_hot(torch.tensor(9), tokens + 1)
    starts = pruning_bounds(occupancy, torch.tensor([frames]), torch.tensor([tokens]), 3)[0]
    held = (starts <= path) & (path < starts + 3)
    assert held[8:].all()


def test_batch_equals_utterances_alone() -> None:
    problem = make(7, [9, 5, 2, 6], [4, 0, 2, 6], dtype=torch.float64)
    together = problem.pruned(band=3)
    alone = [problem.utterance(index).pruned(band=3) for index in range(4)]
    assert {one.token_log_probs.shape[2] for one in alone} == {1, 3}
    for name in ("simple", "pruned"):
        expected = torch.cat([getattr(one, name) for one in alone])
        torch.testing.assert_close(getattr(together, name), expected)
        for actual, reference in zip(
            problem.gradients(getattr(together, name)), problem.gradients(expected), strict=True
        ):
            torch.testing.assert_close(actual, reference)
    torch.testing.assert_close(
        problem.full(), torch.cat([problem.utterance(index).full() for index in range(4)])
    )


@pytest.mark.parametrize("junk", [math.nan, math.inf, -math.inf, 1e30])
def test_padding_never_matters(junk: float) -> None:
    clean = make(11, [6, 3, 1], [2, 4, 0])
    spoilt = make(11, [6, 3, 1], [2, 4, 0])
    logits = clean.logits().detach()
    spoilt_logits = logits.clone()
    with torch.no_grad():
        for index, (frames, tokens) in enumerate(
            zip(clean.frame_lengths.tolist(), clean.token_lengths.tolist(), strict=True)
        ):
            for tensor in (spoilt.frames, spoilt.simple_frames, spoilt_logits):
                tensor[index, frames:] = junk
            for tensor in (spoilt.predictions, spoilt.simple_predictions):
                tensor[index, tokens + 1 :] = junk
            spoilt_logits[index, :, tokens + 1 :] = junk
            spoilt.targets[index, tokens:] = -7
    for term in ("simple", "pruned"):
        expected, actual = (getattr(each.pruned(band=2), term) for each in (clean, spoilt))
        torch.testing.assert_close(actual, expected, rtol=0, atol=0)
        for ours, theirs in zip(spoilt.gradients(actual), clean.gradients(expected), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)

    results = []
    for scores, problem in ((logits, clean), (spoilt_logits, spoilt)):
        scores.requires_grad_()
        lengths = problem.frame_lengths, problem.token_lengths
        loss = full_transducer_loss(scores, problem.targets, *lengths, "none")
        results.append((loss, *torch.autograd.grad(loss.sum(), scores)))
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=0)


def test_empty_targets_cost_their_blanks() -> None:
    problem = make(4, [3, 2], [0, 0])
    loss = problem.pruned()
    blanks = problem.logits()[:, :, 0].log_softmax(-1)[..., 0]
    expected = -torch.stack([blanks[0].sum(), blanks[1, :2].sum()])
    torch.testing.assert_close(loss.pruned, expected)
    torch.testing.assert_close(problem.full(), expected)
    assert loss.token_log_probs.shape == (2, 3, 1)
    assert all(grad is None or grad.isfinite().all() for grad in problem.gradients(loss.pruned))


def test_more_tokens_than_the_band_can_climb() -> None:
    problem = make(6, [2, 3], [9, 1])
    loss = problem.pruned(band=2)
    assert loss.token_log_probs.shape[2] == effective_band(
        2, problem.frame_lengths, problem.token_lengths
    )
    assert loss.pruned.isfinite().all()
    assert all(grad.isfinite().all() for grad in problem.gradients(loss.pruned + loss.simple))


def test_extreme_scores_stay_finite() -> None:
    problem = make(8, [30, 20], [12, 9], scale=300.0, dtype=torch.float32)
    loss = problem.pruned()
    assert loss.pruned.isfinite().all()
    assert loss.simple.isfinite().all()
    assert all(grad.isfinite().all() for grad in problem.gradients(loss.pruned + loss.simple))
    # Tokens ruled out by -inf: no path, so the loss is huge, but neither infinite nor NaN.
    logits = torch.zeros(1, 3, 3, 4)
    logits[..., 1:] = -torch.inf
    logits.requires_grad_()
    targets = torch.tensor([[1, 2]])
    full = full_transducer_loss(logits, targets, torch.tensor([3]), torch.tensor([2]))
    (grad,) = torch.autograd.grad(full, logits)
    assert full.item() > 1e5
    assert full.isfinite()
    assert grad.isfinite().all()


def test_float32_keeps_its_precision_on_long_utterances() -> None:
    lengths = [400, 300], [90, 100]
    exact = make(9, *lengths, vocabulary=30, width=8, scale=2.0)
    single = make(9, *lengths, vocabulary=30, width=8, scale=2.0, dtype=torch.float32)
    torch.testing.assert_close(
        single.full().double(), exact.full(), rtol=1e-5, atol=0, check_dtype=False
    )
    for actual, expected in zip(
        single.gradients(single.full())[:2], exact.gradients(exact.full())[:2], strict=True
    ):
        torch.testing.assert_close(actual.double(), expected, rtol=1e-3, atol=1e-3)


def test_additive_joiner_matches_the_materialised_one() -> None:
    problem = make(10, [6, 4], [3, 2], scale=3.0)
    lengths = problem.frame_lengths, problem.token_lengths
    token, blank = simple_log_probs(
        problem.simple_frames, problem.simple_predictions, problem.targets, *lengths
    )
    expected = problem.simple_logits().log_softmax(-1)
    torch.testing.assert_close(blank[0], expected[0, ..., 0])
    for position in range(3):
        following = problem.targets[0, position]
        torch.testing.assert_close(token[0, :, position], expected[0, :, position, following])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_logits_reduced_in_several_chunks(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dualmode.losses.joint._CHUNK_CPU", 40)
    logits = torch.randn(3, 7, 11).to(dtype).requires_grad_()
    tokens = torch.randint(1, 11, (3, 7))
    token, blank = gathered_log_probs(logits, tokens, None)
    exact = logits.to(token.dtype).log_softmax(-1)
    expected = exact.gather(2, tokens.unsqueeze(2)).squeeze(2), exact[..., 0]
    torch.testing.assert_close((token, blank), expected)
    weights = torch.randn(2, 3, 7).to(token.dtype)
    actual, reference = (
        torch.autograd.grad((weights[0] * first + weights[1] * second).sum(), logits)[0]
        for first, second in ((token, blank), expected)
    )
    torch.testing.assert_close(actual, reference)


def test_log_probs_are_those_of_the_joiner_on_the_band() -> None:
    problem = make(12, [8, 5], [5, 2])
    loss = problem.pruned(band=3)
    log_probs = problem.logits().log_softmax(-1)
    for index, frames, tokens in ((0, 8, 5), (1, 5, 2)):
        for time in range(8):
            for slot in range(3):
                u = int(loss.starts[index, time]) + slot
                token, blank = IMPOSSIBLE, IMPOSSIBLE
                if time < frames and u <= tokens:
                    blank = log_probs[index, time, u, 0].item()
                    if u < tokens:
                        token = log_probs[index, time, u, problem.targets[index, u]].item()
                assert loss.token_log_probs[index, time, slot].item() == pytest.approx(token)
                assert loss.blank_log_probs[index, time, slot].item() == pytest.approx(blank)


def test_another_recogniser_can_be_evaluated_on_the_same_band() -> None:
    teacher, student = make(13, [7, 7], [4, 3]), make(14, [7, 7], [4, 3])
    student.targets = teacher.targets
    loss = student.pruned(band=3)
    width = loss.token_log_probs.shape[2]
    arguments = teacher.frames, teacher.predictions, teacher.join, teacher.targets, loss.starts
    token, blank = band_log_probs(*arguments, width, teacher.token_lengths)
    expected = teacher.pruned(band=3, starts=loss.starts)
    torch.testing.assert_close(token, expected.token_log_probs)
    torch.testing.assert_close(blank, expected.blank_log_probs)
    assert torch.equal(expected.starts, loss.starts)
    assert expected.token_log_probs.requires_grad
    assert not expected.starts.requires_grad


def test_reductions_are_over_utterances() -> None:
    problem = make(15, [6, 4, 5], [3, 1, 0])
    each, total, mean = (
        problem.pruned(reduction=reduction) for reduction in ("none", "sum", "mean")
    )
    for name in ("simple", "pruned"):
        assert getattr(each, name).shape == (3,)
        torch.testing.assert_close(getattr(total, name), getattr(each, name).sum())
        torch.testing.assert_close(getattr(mean, name), getattr(each, name).mean())
    torch.testing.assert_close(problem.full("mean"), problem.full().mean())
    with pytest.raises(ValueError, match="reduction"):
        problem.full("average")


def test_bfloat16_autocast_is_finite_and_near() -> None:
    problem = make(16, [40, 25], [12, 7], vocabulary=20, width=16, dtype=torch.float32)
    exact = problem.pruned()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = problem.pruned(starts=exact.starts)
        full = problem.full()
    assert loss.token_log_probs.dtype == torch.float32
    torch.testing.assert_close(loss.pruned, exact.pruned, rtol=0.02, atol=0.05)
    torch.testing.assert_close(loss.simple, exact.simple, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(full, problem.full(), rtol=0.02, atol=0.05)
    for actual, expected in zip(
        problem.gradients(loss.pruned), problem.gradients(exact.pruned), strict=True
    ):
        if actual is not None:
            assert actual.isfinite().all()
            assert (actual - expected).norm() < 0.05 * expected.norm()


def test_inference_computes_the_same_without_gradients() -> None:
    problem = make(17, [6, 4], [3, 2])
    with torch.no_grad():
        loss = problem.pruned()
    torch.testing.assert_close(loss.pruned, problem.pruned().pruned.detach())
    assert not loss.pruned.requires_grad


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frame_lengths": torch.tensor([0, 3])}, "frame_lengths must lie between 1"),
        ({"frame_lengths": torch.tensor([6, 3])}, "frame_lengths must lie between 1"),
        ({"frame_lengths": torch.tensor([5.0, 3.0])}, "frame_lengths must hold integers"),
        ({"frame_lengths": torch.tensor([5])}, r"frame_lengths must have shape \(2\)"),
        ({"token_lengths": torch.tensor([4, 1])}, "token_lengths must lie between 0"),
        ({"token_lengths": torch.tensor([-1, 1])}, "token_lengths must lie between 0"),
        ({"targets": torch.tensor([[1, 0, 2], [3, 3, 3]])}, "targets must lie between 1"),
        ({"targets": torch.tensor([[1, 5, 2], [3, 3, 3]])}, "targets must lie between 1"),
        ({"targets": torch.ones(2, 3)}, "targets must be int64"),
        ({"targets": torch.ones(2, dtype=torch.int64)}, "targets must have shape"),
        ({"targets": torch.ones(0, 3, dtype=torch.int64)}, "batch is empty"),
        ({"predictions": torch.zeros(2, 3, 3)}, "predictions must have shape"),
        ({"frames": torch.zeros(2, 3)}, "frames must have shape"),
        ({"frames": torch.zeros(2, 5, 3, dtype=torch.int64)}, "frames must be floating"),
        ({"simple_frames": torch.zeros(2, 4, 5)}, "simple_frames must have shape"),
        ({"simple_predictions": torch.zeros(2, 4, 6)}, "simple_predictions must have shape"),
    ],
)
def test_wrong_arguments_are_named(changes: dict[str, Tensor], message: str) -> None:
    problem = replace(make(18, [5, 3], [3, 1]), **changes)
    with pytest.raises(ValueError, match=message):
        problem.pruned()


@pytest.mark.parametrize(
    ("starts", "message"),
    [
        ([[1, 1, 1, 1, 1]], "0 on the first frame"),
        ([[0, 2, 2, 2, 2]], "rise by 0 to 1"),
        ([[0, 1, 0, 1, 2]], "rise by 0 to 1"),
        ([[0, 0, 1, 1, 1]], "hold the last token"),
        ([[0, 0, 1, 2]], "starts must have shape"),
        ([[0.0, 0.0, 1.0, 2.0, 2.0]], "starts must be int64"),
    ],
)
def test_starts_without_a_path_are_refused(starts: list[list[int]], message: str) -> None:
    problem = make(19, [5], [3])
    assert problem.pruned(band=2, starts=torch.tensor([[0, 0, 1, 2, 2]])).pruned.isfinite()
    with pytest.raises(ValueError, match=message):
        problem.pruned(band=2, starts=torch.tensor(starts))


def test_other_arguments_are_checked() -> None:
    problem = make(20, [5], [3])
    with pytest.raises(ValueError, match="band must be at least 1"):
        problem.pruned(band=0)
    logits, targets = problem.logits(), problem.targets
    lengths = problem.frame_lengths, problem.token_lengths
    with pytest.raises(ValueError, match="logits must have shape"):
        full_transducer_loss(logits[:, :, :-1], targets, *lengths)
    problem.join = lambda frames, predictions: frames  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="logits of the joiner"):
        problem.pruned()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_with_cpu() -> None:
    problem = make(21, [50, 31, 12], [14, 9, 0], vocabulary=40, width=16)
    moved = replace(
        problem,
        **{name: getattr(problem, name).detach().cuda().requires_grad_() for name in LEAVES},
        targets=problem.targets.cuda(),
        token_lengths=problem.token_lengths.cuda(),
    )
    expected, actual = problem.pruned(), moved.pruned()
    assert torch.equal(actual.starts.cpu(), expected.starts)
    for name in ("simple", "pruned"):
        torch.testing.assert_close(getattr(actual, name).cpu(), getattr(expected, name))
        for ours, theirs in zip(
            moved.gradients(getattr(actual, name)),
            problem.gradients(getattr(expected, name)),
            strict=True,
        ):
            if theirs is not None:
                torch.testing.assert_close(ours.cpu(), theirs)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        assert moved.pruned().pruned.isfinite().all()
