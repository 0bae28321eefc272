"""The facade: a model directory in, transcripts and streams out."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dualmode.audio import SAMPLE_RATE_HZ, stream_audio
from dualmode.config import Recipe
from dualmode.decoding.beam import BeamSearch
from dualmode.decoding.chunks import stream_many
from dualmode.decoding.greedy import GreedySearch
from dualmode.decoding.pieces import LONGEST_S, Piece, cut_pieces
from dualmode.decoding.search import Search
from dualmode.decoding.stream import (
    TAIL_S,
    Endpointing,
    StreamSession,
    check_samples,
    silence,
)
from dualmode.decoding.transcript import Token, Transcript, transcript_of
from dualmode.errors import AudioError
from dualmode.features import fbank
from dualmode.model.directory import load_model
from dualmode.model.subnet import Subnet
from dualmode.model.supernet import Supernet, named_subnet
from dualmode.text import Tokens

Samples = npt.NDArray[np.float32]
Audio = str | Path | Samples
SearchName = Literal["greedy", "beam"]

BATCH_SECONDS = 120.0  # audio that is recognised together


class Recognizer:
    """Every recogniser of one supernet.

    ``subnet`` is everywhere a name, ``server`` or ``device``, or a :class:`Subnet` of the user's
    choice: any chunk and look-ahead, and any sparsity that the model was trained with.

    Args:
        model: put into evaluation mode here.
        tokens: its vocabulary.
        recipe: that it was trained by; says what ``device`` means.
        beam_width: hypotheses that ``search="beam"`` keeps.
        tail_s: silence appended to audio for subnets that stream, whose last words may come
            after their sound.
    """

    def __init__(
        self,
        model: Supernet,
        tokens: Tokens,
        recipe: Recipe,
        *,
        beam_width: int = 4,
        tail_s: float = TAIL_S,
    ) -> None:
        self.model = model.eval()
        self.tokens = tokens
        self.recipe = recipe
        self.beam_width = beam_width
        self.tail_s = tail_s
        # Full context is no better than what training showed it: pieces are no longer than that.
        self._longest_s = max(2.0, min(LONGEST_S, recipe.data.max_seconds))
        self._pruned: dict[int, Supernet] = {}

    def subnet(self, which: str | Subnet) -> Subnet:
        """The subnet that a name stands for.

        Raises:
            SubnetError: no such name, or a sparsity that the model was not trained with.
        """
        subnet = named_subnet(which, self.recipe) if isinstance(which, str) else which
        self.model.active_weights(subnet)
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
        model, baked = self._network(self.subnet(subnet))
        return StreamSession(
            model,
            self.tokens,
            baked,
            self._search(model, baked, search),
            endpointing=endpointing,
            tail_s=self.tail_s,
            keep_finished=keep_finished,
        )

    def stream_batch(
        self,
        audios: Sequence[Samples],
        subnet: str | Subnet = "device",
        search: SearchName = "greedy",
    ) -> list[Transcript]:
        """Stream samples (S,) of each side by side, chunk by chunk: what sessions would give.

        Raises:
            SubnetError: the model holds no such subnet, or it has full context.
        """
        model, baked = self._network(self.subnet(subnet))
        searcher = self._search(model, baked, search)
        features = [fbank(self._with_tail(samples, baked)) for samples in audios]
        state = searcher.start(len(audios), model.encoder.norm.gain.device)
        for frames, lengths in stream_many(model, baked, features):
            state = searcher.advance(state, frames, lengths)
        return [
            transcript_of(tokens, self.tokens, len(samples) / SAMPLE_RATE_HZ)
            for tokens, samples in zip(searcher.best(state), audios, strict=True)
        ]

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
        model, baked = self._network(subnet)
        features = [fbank(self._with_tail(samples, baked)) for samples in audios]
        padded, lengths = _pad(features)
        device = model.encoder.norm.gain.device
        with torch.inference_mode():
            frames, counts = model.recognize(padded.to(device), lengths.to(device), baked)
        searcher = self._search(model, baked, search)
        state = searcher.advance(searcher.start(len(audios), device), frames, counts)
        return searcher.best(state)

    def _with_tail(self, samples: Samples, subnet: Subnet) -> Samples:
        return np.concatenate([samples, silence(self.tail_s)]) if subnet.streams else samples

    def _search(self, model: Supernet, subnet: Subnet, name: SearchName) -> Search[Any]:
        scorer = model.scorer(subnet, self.recipe.decoding.blank_penalty)
        if name == "beam":
            return BeamSearch(scorer, self.beam_width)
        if name == "greedy":
            return GreedySearch(scorer)
        raise ValueError(f"search must be greedy or beam, not {name!r}")

    def _network(self, subnet: Subnet) -> tuple[Supernet, Subnet]:
        """A model and a subnet of it that compute ``subnet`` without masking weights each time.

        For a sparse subnet it is a copy whose pruned weights are zeros, run dense.
        """
        mask = self.model.active_weights(subnet).mask
        if mask is None:
            return self.model, subnet
        if mask not in self._pruned:
            self._pruned[mask] = _pruned_copy(self.model, mask)
        return self._pruned[mask], replace(subnet, sparsity=0.0)


def load(path: str | Path, device: str = "cpu") -> Recognizer:
    """Load a model directory.

    Args:
        path: a directory with config.yaml, model.safetensors and tokens.model.
        device: of torch: ``cpu``, ``cuda``.

    Raises:
        ModelError: the directory is missing, incomplete or corrupt.
    """
    loaded = load_model(path, device=device)
    return Recognizer(loaded.model, loaded.tokens, loaded.recipe)


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


def _pad(features: Sequence[npt.NDArray[np.float32]]) -> tuple[Tensor, Tensor]:
    """Stack mel frames (M, 80) of B utterances to (B, M, 80) with their lengths (B,)."""
    tensors = [torch.from_numpy(mels) for mels in features]
    lengths = torch.tensor([len(mels) for mels in features])
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True), lengths


def _pruned_copy(model: Supernet, mask: int) -> Supernet:
    pruned = copy.deepcopy(model)
    with torch.no_grad():
        for layer in pruned.prunable():
            layer.weight.copy_(layer.effective_weight(mask))
    return pruned.eval()
