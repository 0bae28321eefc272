"""``dualmode listen``."""

from __future__ import annotations

import queue
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dualmode.commands.guidance import (
    HotwordsOption,
    LmOption,
    LmWeightOption,
    PhrasesOption,
    ThresholdOption,
    WrittenOption,
    chosen_guidance,
)
from dualmode.commands.subnets import (
    ChunkOption,
    LeftOption,
    LookaheadOption,
    SearchOption,
    SparsityOption,
    chosen_subnet,
)
from dualmode.errors import AudioError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Samples = npt.NDArray[np.float32]

_BLOCK_MS = 40


def listen(
    model: Annotated[Path, typer.Argument(help="A model directory, or a shipped model.")] = Path(
        "talk"
    ),
    microphone: Annotated[
        str | None,
        typer.Option("--microphone", help="Name or number; default: the system's."),
    ] = None,
    search: SearchOption = "greedy",
    sparsity: SparsityOption = None,
    chunk_ms: ChunkOption = None,
    lookahead_ms: LookaheadOption = None,
    left_ms: LeftOption = None,
    phrases: PhrasesOption = None,
    threshold: ThresholdOption = None,
    hotwords: HotwordsOption = None,
    lm: LmOption = None,
    lm_weight: LmWeightOption = None,
    written: WrittenOption = False,
) -> None:
    """Show live captions of the microphone by the device recogniser. Ctrl-C stops.

    Needs a microphone and the package sounddevice: pip install sounddevice

    \b
    Examples:
      dualmode listen
      dualmode listen runs/quickstart/model
      dualmode listen MODEL --microphone 2 --chunk-ms 320
    """
    from dualmode.display import GrowingText, make_console, show_stream
    from dualmode.recognizer import load

    sound = _sounddevice()
    recognizer = load(model)
    chosen = chosen_subnet(
        recognizer,
        "device",
        sparsity=sparsity,
        chunk_ms=chunk_ms,
        lookahead_ms=lookahead_ms,
        left_ms=left_ms,
    )
    recognizer.keep_only(chosen)
    console = make_console()
    guidance = chosen_guidance(
        phrases=phrases,
        threshold=threshold,
        hotwords=hotwords,
        lm=lm,
        lm_weight=lm_weight,
        written=written,
    )
    session = recognizer.stream(chosen, search, keep_finished=False, **guidance)
    with _microphone_blocks(sound, microphone) as blocks:
        console.print("listening; Ctrl-C stops")
        with GrowingText(console) as growing:
            rest = show_stream(session, blocks, growing)
    if rest.text:
        line = f"{session.seconds:7.2f} s  {rest.written_text or rest.text}"
        console.print(line, markup=False, soft_wrap=True)


def _sounddevice() -> Any:
    try:
        import sounddevice
    except ImportError:
        raise AudioError(
            "listening needs the package sounddevice: pip install sounddevice"
        ) from None
    except OSError as error:
        raise AudioError(
            f"sounddevice found no PortAudio ({error}): install it, for example with "
            "apt-get install libportaudio2"
        ) from None
    return sounddevice


@contextmanager
def _microphone_blocks(sound: Any, microphone: str | None) -> Iterator[Iterator[Samples]]:
    """Yield blocks of samples (S,) from the microphone until Ctrl-C.

    Raises:
        AudioError: there is no microphone, or it cannot be opened.
    """
    from dualmode.audio import SAMPLE_RATE_HZ

    # A SimpleQueue is reentrant, so a signal handler may use it.
    waiting: queue.SimpleQueue[Samples | None] = queue.SimpleQueue()

    def keep(block: Samples, frames: int, clock: object, status: object) -> None:
        waiting.put(block[:, 0].copy())

    def end(number: int, frame: object) -> None:
        waiting.put(None)

    chosen = int(microphone) if microphone and microphone.isdigit() else microphone
    try:
        stream = sound.InputStream(
            samplerate=SAMPLE_RATE_HZ,
            blocksize=SAMPLE_RATE_HZ * _BLOCK_MS // 1000,
            device=chosen,
            channels=1,
            dtype="float32",
            callback=keep,
        )
    except (sound.PortAudioError, ValueError) as error:
        raise AudioError(
            f"no microphone can be opened ({error}); python -m sounddevice lists all devices"
        ) from None
    # A handler instead of KeyboardInterrupt: audio recorded before Ctrl-C is still recognised.
    before = signal.signal(signal.SIGINT, end)
    try:
        with stream:
            yield _until_none(waiting)
    finally:
        signal.signal(signal.SIGINT, before)


def _until_none(waiting: queue.SimpleQueue[Samples | None]) -> Iterator[Samples]:
    while (block := waiting.get()) is not None:
        yield block
