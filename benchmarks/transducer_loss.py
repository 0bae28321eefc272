"""Time and peak memory of the transducer loss, forward and backward, including the joiner.

    python -m benchmarks.transducer_loss [--small] [--threads N] [--json FILE]

Contenders: the pruned loss of this package (including the two projections of its additive joiner),
its full loss on the unpruned joint and, for the small case on the CPU, the full joint with the loss
of the ``warprnnt-numba`` package. Each runs in a separate process, for its own peak memory. A full
joint that does not fit into memory runs in slices of the batch; its memory is then the peak of a
slice times the number of slices, marked as extrapolated.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dualmode.whole_files import replace_text

# The parent must stay small, because a child's peak memory includes its parent's size. Therefore
# only the children import torch.
if TYPE_CHECKING:
    from torch import Tensor

WIDTH = 512
BAND = 5
MEMORY_SHARE = 0.4
REPEATS = 5
PATIENCE_SECONDS = 20.0

LABELS = {
    "pruned": f"pruned (band {BAND})",
    "full": "full joint",
    "warprnnt": "full joint, warprnnt-numba",
}


@dataclass(frozen=True)
class Case:
    """Sizes of a batch: utterances, frames, tokens, vocabulary."""

    batch: int
    frames: int
    tokens: int
    vocabulary: int

    def __str__(self) -> str:
        return f"B={self.batch} T={self.frames} U={self.tokens} V={self.vocabulary}"


SMALL = Case(8, 250, 60, 500)
LARGE = Case(16, 400, 100, 2000)
TINY = Case(2, 6, 3, 11)


@dataclass(frozen=True)
class Result:
    """Measurement of one contender; ``megabytes`` is for the whole batch.

    ``cpu_seconds`` is processor time over all threads, which is less affected by other programs
    than ``seconds``, the elapsed time.
    """

    contender: str
    case: str
    device: str
    seconds: float
    cpu_seconds: float
    megabytes: float
    slices: int
    repeats: int


class Problem:
    """Random activations and joiner weights of a case."""

    def __init__(self, case: Case, device: str) -> None:
        import torch

        generator = torch.Generator().manual_seed(1)

        def leaf(*shape: int, scale: float = 1.0) -> Tensor:
            values = scale * torch.randn(shape, generator=generator)
            return values.to(device).requires_grad_()

        self.case = case
        self.frames = leaf(case.batch, case.frames, WIDTH)
        self.predictions = leaf(case.batch, case.tokens + 1, WIDTH)
        self.output = leaf(case.vocabulary, WIDTH, scale=WIDTH**-0.5)
        self.simple_frames = leaf(case.vocabulary, WIDTH, scale=WIDTH**-0.5)
        self.simple_predictions = leaf(case.vocabulary, WIDTH, scale=WIDTH**-0.5)
        size = (case.batch, case.tokens)
        targets = torch.randint(1, case.vocabulary, size, generator=generator)
        self.targets = targets.to(device)
        self.frame_lengths = torch.full((case.batch,), case.frames, device=device)
        self.token_lengths = torch.full((case.batch,), case.tokens, device=device)

    def join(self, frames: Tensor, predictions: Tensor) -> Tensor:
        from torch.nn import functional

        return functional.linear((frames + predictions).tanh(), self.output)


def run_pruned(problem: Problem, slices: int) -> None:
    """Forward and backward of the pruned loss."""
    from torch.nn import functional

    from dualmode.losses.transducer_loss import pruned_transducer_loss

    assert slices == 1
    loss = pruned_transducer_loss(
        problem.frames,
        problem.predictions,
        problem.join,
        functional.linear(problem.frames, problem.simple_frames),
        functional.linear(problem.predictions, problem.simple_predictions),
        problem.targets,
        problem.frame_lengths,
        problem.token_lengths,
        band=BAND,
        reduction="sum",
    )
    (loss.simple + loss.pruned).backward()  # type: ignore[no-untyped-call]


def run_full(problem: Problem, slices: int) -> None:
    """Forward and backward of the full loss."""
    from dualmode.losses.transducer_loss import full_transducer_loss

    for part in batch_slices(problem.case.batch, slices):
        logits = problem.join(problem.frames[part, :, None], problem.predictions[part, None])
        loss = full_transducer_loss(
            logits,
            problem.targets[part],
            problem.frame_lengths[part],
            problem.token_lengths[part],
            reduction="sum",
        )
        loss.backward()  # type: ignore[no-untyped-call]
        del logits, loss


def run_warprnnt(problem: Problem, slices: int) -> None:
    """Forward and backward of the full joint with the loss of warprnnt-numba."""
    from warprnnt_numba.rnnt_loss.rnnt_pytorch import rnnt_loss

    for part in batch_slices(problem.case.batch, slices):
        logits = problem.join(problem.frames[part, :, None], problem.predictions[part, None])
        rnnt_loss(
            logits,
            problem.targets[part].int(),
            problem.frame_lengths[part].int(),
            problem.token_lengths[part].int(),
            reduction="sum",
        ).backward()
        del logits


RUNS: dict[str, Callable[[Problem, int], None]] = {
    "pruned": run_pruned,
    "full": run_full,
    "warprnnt": run_warprnnt,
}


def batch_slices(batch: int, slices: int) -> list[slice]:
    """Slices of a batch, in order and of nearly equal size."""
    step = math.ceil(batch / slices)
    return [slice(first, first + step) for first in range(0, batch, step)]


def slices_needed(contender: str, case: Case, device: str) -> int:
    """Number of slices of the batch that each fit into a safe share of the free memory."""
    if contender == "pruned":
        return 1
    nodes = case.batch * case.frames * (case.tokens + 1)
    # Logits and their gradient, for the other package also log-softmax and its gradient; for the
    # hidden layer the sum, the tanh and a gradient.
    tensors = 4 if contender == "warprnnt" else 2
    need = 4 * nodes * (tensors * case.vocabulary + 3 * WIDTH)
    return min(math.ceil(need / (MEMORY_SHARE * free_memory(device))), case.batch)


def free_memory(device: str) -> int:
    """Free bytes of the device."""
    if device == "cuda":
        import torch

        return int(torch.cuda.mem_get_info()[0])
    for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise OSError("the kernel does not report its available memory")


class PeakMemory:
    """Peak bytes since creation: of the process on the CPU, of tensors on CUDA."""

    def __init__(self, device: str) -> None:
        import torch

        self._cuda = torch.cuda if device == "cuda" else None
        if self._cuda is not None:
            self._cuda.reset_peak_memory_stats()
        self._before = self._peak()

    def read(self) -> int:
        """Bytes above what was in use at the start."""
        return self._peak() - self._before

    def _peak(self) -> int:
        if self._cuda is not None:
            return int(self._cuda.max_memory_allocated())
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(contender: str, case: Case, device: str, threads: int) -> Result:
    """Runs one contender in this process."""
    import torch

    torch.set_num_threads(threads)
    run = RUNS[contender]

    def synchronise() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    run(Problem(TINY, device), 1)  # compiles, starts thread pools and library handles
    problem = Problem(case, device)
    slices = slices_needed(contender, case, device)
    memory = PeakMemory(device)
    times: list[float] = []
    cpu_times: list[float] = []
    begin = time.perf_counter()
    while len(times) < REPEATS and (not times or time.perf_counter() - begin < PATIENCE_SECONDS):
        synchronise()
        start, cpu_start = time.perf_counter(), time.process_time()
        run(problem, slices)
        synchronise()
        times.append(time.perf_counter() - start)
        cpu_times.append(time.process_time() - cpu_start)
    return Result(
        contender=contender,
        case=str(case),
        device=device,
        seconds=statistics.median(times),
        cpu_seconds=statistics.median(cpu_times),
        megabytes=memory.read() / 2**20 * slices,
        slices=slices,
        repeats=len(times),
    )


def measure_apart(contender: str, case: Case, device: str, threads: int) -> Result:
    """Runs one contender in a process of its own."""
    task = {
        "contender": contender,
        "case": asdict(case),
        "device": device,
        "threads": threads,
    }
    command = [sys.executable, "-m", "benchmarks.transducer_loss", "--worker", json.dumps(task)]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Result(**json.loads(finished.stdout.splitlines()[-1]))


def pick_device() -> str:
    """CUDA if available; queried in a child, to keep this process small."""
    probe = "import torch; print('cuda' if torch.cuda.is_available() else 'cpu')"
    command = [sys.executable, "-c", probe]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def has_warprnnt() -> bool:
    """Whether warprnnt-numba and numba, its undeclared dependency, are installed."""
    found = all(importlib.util.find_spec(name) for name in ("warprnnt_numba", "numba"))
    if not found:
        print("warprnnt-numba left out: pip install warprnnt-numba numba", file=sys.stderr)
    return found


def report(groups: list[list[Result]]) -> None:
    """Prints one table with the ratios to the pruned loss."""
    from rich.console import Console
    from rich.table import Table

    device = groups[0][0].device
    table = Table(
        title=f"Transducer loss, forward + backward with joiner, J={WIDTH}, {device}, float32"
    )
    for heading in ("case", "contender"):
        table.add_column(heading)
    for heading in ("median s", "ratio", "processor s", "ratio", "runs", "peak MB", "ratio"):
        table.add_column(heading, justify="right")
    table.add_column("note")
    for group in groups:
        base = group[0]
        for result in group:
            note = f"{result.slices} slices, peak extrapolated" if result.slices > 1 else ""
            table.add_row(
                result.case if result is base else "",
                LABELS[result.contender],
                f"{result.seconds:.3f}",
                f"{result.seconds / base.seconds:.1f}x",
                f"{result.cpu_seconds:.3f}",
                f"{result.cpu_seconds / base.cpu_seconds:.1f}x",
                str(result.repeats),
                f"{result.megabytes:.0f}",
                f"{result.megabytes / base.megabytes:.1f}x",
                note,
            )
        table.add_section()
    Console(width=140).print(table)


def main() -> None:
    """Runs the benchmark from the command line."""
    parser = argparse.ArgumentParser(description="Benchmark of the transducer loss.")
    parser.add_argument("--small", action="store_true", help="only the small case")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    parser.add_argument("--threads", type=int, default=2, help="processor threads (default 2)")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        task: dict[str, Any] = json.loads(options.worker)
        case = Case(**task.pop("case"))
        result = measure(case=case, **task)
        print(json.dumps(asdict(result)))
        return

    device = pick_device()
    third = ["warprnnt"] if device == "cpu" and has_warprnnt() else []
    plan = [(SMALL, ["pruned", "full", *third])]
    if not options.small:
        plan.append((LARGE, ["pruned", "full"]))
    groups = [
        [measure_apart(contender, case, device, options.threads) for contender in contenders]
        for case, contenders in plan
    ]
    report(groups)
    if options.json is not None:
        results = [asdict(result) for group in groups for result in group]
        replace_text(options.json, json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
