"""The facade: a model directory in, transcripts and streams out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from dualmode.audio import SAMPLE_RATE_HZ, Samples, stream_audio
from dualmode.decoding.beam import BeamSearch
from dualmode.decoding.greedy import GreedySearch
from dualmode.decoding.pieces import LONGEST_S, Piece, cut_pieces
from dualmode.decoding.search import Search, SearchName
from dualmode.decoding.stream import (
    TAIL_S,
    Endpointing,
    StreamOptions,
    StreamSession,
    check_samples,
    silence,
)
from dualmode.decoding.transcript import Token, Transcript, transcript_of
from dualmode.errors import AudioError
from dualmode.features import MELS, Mels, fbank
from dualmode.model.subnet import Subnet, named_subnet
from dualmode.runtime import Floats, Ids, Runtime, RuntimeModel, load_runtime
from dualmode.streams import LARGEST_BATCH, StreamGroup
from dualmode.text import Tokens

Audio = str | Path | Samples

BATCH_SECONDS = 120.0  # audio that is recognised together


class Recognizer:
    """Every recogniser of one supernet.

    ``subnet`` is everywhere a name, ``server`` or ``device``, or a :class:`Subnet` of the user's
    choice: any chunk and look-ahead, and any sparsity that the model was trained with.

    Args:
        model: as a runtime loaded it.
        beam_width: hypotheses that ``search="beam"`` keeps.
        tail_s: silence appended to audio for subnets that stream, whose last words may come
            after their sound.
    """

    def __init__(
        self,
        model: RuntimeModel,
        *,
        beam_width: int = 4,
        tail_s: float = TAIL_S,
    ) -> None:
        self.model = model
        self.tokens = model.tokens
        self.recipe = model.recipe
        self.beam_width = beam_width
        self.tail_s = tail_s
        # Full context is no better than what training showed it: pieces are no longer than that.
        self._longest_s = max(2.0, min(LONGEST_S, self.recipe.data.max_seconds))
        self._opened: dict[Subnet, Runtime] = {}

    @classmethod
    def load(
        cls, path: str | Path, runtime: str | None = None, device: str = "cpu", **options: Any
    ) -> Recognizer:
        """Load a model directory, or what else a runtime understands.

        Args:
            path: a directory with config.yaml, model.safetensors and tokens.model.
            runtime: ``torch``, or another of ``dualmode.runtime.RUNTIMES``; by default the one
                that ``path`` is made for.
            device: where the network runs: ``cpu``, ``cuda``.
            options: ``beam_width`` and ``tail_s`` as above.

        Raises:
            ModelError: the directory is missing, incomplete or corrupt, or there is no such
                runtime.
        """
        return cls(load_runtime(path, runtime, device), **options)

    def keep_only(self, subnet: str | Subnet) -> None:
        """Free the weights that ``subnet`` does not need; others are then refused.

        Raises:
            SubnetError: the model holds no such subnet.
        """
        self.model.keep_only(self.subnet(subnet))
        self._opened.clear()

    def subnet(self, which: str | Subnet) -> Subnet:
        """The subnet that a name stands for.

        Raises:
            SubnetError: no such name, or a sparsity that the model was not trained with.
        """
        subnet = named_subnet(which, self.recipe) if isinstance(which, str) else which
        self.model.check(subnet)
        return subnet

    def transcribe(
        self, audio: Audio, subnet: str | Subnet = "server", search: SearchName = "greedy"
    ) -> Transcript:
        """Recognise a file of any length, or samples (S,) of 16 kHz in [-1, 1].

        Raises:
            AudioError: it cannot be read, or the samples cannot be used.
            SubnetError: the model holds no such subnet.
        """
        (result,) = self.transcribe_batch([audio], subnet, search)
        if isinstance(result, AudioError):
            raise result
        return result

    def transcribe_batch(
        self,
        audios: Sequence[Audio],
        subnet: str | Subnet = "server",
        search: SearchName = "greedy",
    ) -> list[Transcript | AudioError]:
        """Recognise many; one that fails gives its error and the others go on.

        Long audio is cut where it is quiet (full context) or streamed (chunked context).

        Raises:
            SubnetError: the model holds no such subnet.
        """
        chosen = self.subnet(subnet)
        jobs = [_Job(audio) for audio in audios]
        pieces = self._pieces(jobs, chosen, search)
        for batch in _batches(pieces, BATCH_SECONDS):
            found = self._recognize([piece.samples for _, piece in batch], chosen, search)
            for (job, piece), tokens in zip(batch, found, strict=True):
                job.tokens += [replace(t, frame=t.frame + piece.start) for t in tokens]
        return [job.result(self.tokens) for job in jobs]

    def stream(
        self,
        subnet: str | Subnet = "device",
        search: SearchName = "greedy",
        *,
        endpointing: Endpointing | None = Endpointing(),
        keep_finished: bool = True,
    ) -> StreamSession:
        """Open a stream; see :class:`StreamSession`.

        Raises:
            SubnetError: the model holds no such subnet, or it has full context.
        """
        runtime = self._runtime(self.subnet(subnet))
        options = StreamOptions(endpointing, self.tail_s, keep_finished)
        return StreamSession(runtime, self._search(runtime, search), self.tokens, options)

    def stream_group(
        self,
        subnet: str | Subnet = "device",
        search: SearchName = "greedy",
        *,
        endpointing: Endpointing | None = Endpointing(),
        keep_finished: bool = True,
        largest_batch: int = LARGEST_BATCH,
    ) -> StreamGroup:
        """Open a group of live streams that advance in one batch; see :class:`StreamGroup`.

        Raises:
            SubnetError: the model holds no such subnet, or it has full context.
        """
        runtime = self._runtime(self.subnet(subnet))
        options = StreamOptions(endpointing, self.tail_s, keep_finished)
        return StreamGroup(
            runtime,
            self._search(runtime, search),
            self.tokens,
            options,
            largest_batch=largest_batch,
        )

    def stream_batch(
        self,
        audios: Sequence[Samples],
        subnet: str | Subnet = "device",
        search: SearchName = "greedy",
    ) -> list[Transcript]:
        """Stream samples (S,) of each side by side: what sessions without endpoints would give.

        Raises:
            AudioError: samples that cannot be used.
            SubnetError: the model holds no such subnet, or it has full context.
        """
        group = self.stream_group(subnet, search, endpointing=None)
        streams = [group.open() for _ in audios]
        for stream, samples in zip(streams, audios, strict=True):
            stream.push(samples)
            stream.end()
        while group.advance():
            pass
        return [stream.transcript() for stream in streams]

    def _pieces(
        self, jobs: list[_Job], subnet: Subnet, search: SearchName
    ) -> Iterator[tuple[_Job, Piece]]:
        """What to recognise; errors and the text of long streams go straight to their jobs."""
        for job in jobs:
            try:
                if subnet.streams:
                    first, second, rest = _head(job.blocks())
                    if len(second):
                        self._stream(job, subnet, search, [first, second], rest)
                    else:
                        yield job, Piece(0, first)
                else:
                    for piece in cut_pieces(job.blocks(), self._longest_s):
                        yield job, piece
            except AudioError as error:
                job.error = error

    def _stream(
        self,
        job: _Job,
        subnet: Subnet,
        search: SearchName,
        head: list[Samples],
        rest: Iterable[Samples],
    ) -> None:
        session = self.stream(subnet, search)
        for block in chain(head, rest):
            session.push(block)
        job.tokens += session.finish().tokens

    def _recognize(
        self, audios: Sequence[Samples], subnet: Subnet, search: SearchName
    ) -> list[tuple[Token, ...]]:
        runtime = self._runtime(subnet)
        mels, lengths = _pad([fbank(self._with_tail(samples, subnet)) for samples in audios])
        frames, counts = runtime.encode(mels, lengths)
        searcher = self._search(runtime, search)
        return searcher.best(searcher.advance(searcher.start(len(audios)), frames, counts))

    def _with_tail(self, samples: Samples, subnet: Subnet) -> Samples:
        return np.concatenate([samples, silence(self.tail_s)]) if subnet.streams else samples

    def _search(self, runtime: Runtime, name: SearchName) -> Search[Any]:
        penalty = self.recipe.decoding.blank_penalty
        if name == "beam":
            return BeamSearch(runtime, self.beam_width, penalty)
        if name == "greedy":
            return GreedySearch(runtime, blank_penalty=penalty)
        raise ValueError(f"search must be greedy or beam, not {name!r}")

    def _runtime(self, subnet: Subnet) -> Runtime:
        if subnet not in self._opened:
            self._opened[subnet] = self.model.open(subnet)
        return self._opened[subnet]


def load(
    path: str | Path, device: str = "cpu", runtime: str | None = None, **options: Any
) -> Recognizer:
    """Load a model: :meth:`Recognizer.load`."""
    return Recognizer.load(path, runtime, device, **options)


class _Job:
    """One audio of a batch, and what was found in it so far."""

    def __init__(self, audio: Audio) -> None:
        self.audio = audio
        self.samples = 0
        self.tokens: list[Token] = []
        self.error: AudioError | None = None

    def blocks(self) -> Iterator[Samples]:
        """Samples in blocks of bounded size, counted."""
        for block in self._read():
            self.samples += len(block)
            yield block

    def result(self, tokens: Tokens) -> Transcript | AudioError:
        if self.error is not None:
            return self.error
        return transcript_of(self.tokens, tokens, self.samples / SAMPLE_RATE_HZ)

    def _read(self) -> Iterator[Samples]:
        if isinstance(self.audio, (str, Path)):
            yield from stream_audio(self.audio, LONGEST_S)
            return
        samples = check_samples(self.audio)
        size = round(LONGEST_S * SAMPLE_RATE_HZ)
        for start in range(0, len(samples), size):
            yield samples[start : start + size]


def _head(blocks: Iterator[Samples]) -> tuple[Samples, Samples, Iterator[Samples]]:
    """The first two blocks, empty where there are none, and the rest."""
    empty = np.zeros(0, dtype=np.float32)
    return next(blocks, empty), next(blocks, empty), blocks


def _batches(
    pieces: Iterator[tuple[_Job, Piece]], seconds: float
) -> Iterator[list[tuple[_Job, Piece]]]:
    """Pieces in groups that, padded to the longest, are at most ``seconds`` long (or one piece)."""
    batch: list[tuple[_Job, Piece]] = []
    longest = 0
    for job, piece in pieces:
        longest = max(longest, len(piece.samples))
        if batch and longest * (len(batch) + 1) > seconds * SAMPLE_RATE_HZ:
            yield batch
            batch, longest = [], len(piece.samples)
        batch.append((job, piece))
    if batch:
        yield batch


def _pad(features: Sequence[Mels]) -> tuple[Floats, Ids]:
    """Stack mel frames (M, 80) of B utterances to (B, M, 80) with their lengths (B,)."""
    lengths = np.array([len(mels) for mels in features], dtype=np.int64)
    padded = np.zeros((len(features), int(lengths.max(initial=0)), MELS), np.float32)
    for row, mels in zip(padded, features, strict=True):
        row[: len(mels)] = mels
    return padded, lengths
