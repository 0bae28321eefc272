"""The facade: a model directory in, transcripts and streams out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from dualmode.audio import SAMPLE_RATE_HZ, Samples
from dualmode.decoding.beam import BeamSearch
from dualmode.decoding.greedy import GreedySearch
from dualmode.decoding.guidance import Compiled, Compiler, Guidance, shifted
from dualmode.decoding.jobs import Audio, AudioJob, AudioJobs, grouped
from dualmode.decoding.outcome import Hypothesis, Outcome
from dualmode.decoding.pieces import LONGEST_S, Piece, cut_pieces
from dualmode.decoding.search import Search, SearchName
from dualmode.decoding.stream import (
    TAIL_S,
    Endpointing,
    StreamOptions,
    StreamSession,
    silence,
)
from dualmode.decoding.transcript import Transcript
from dualmode.errors import AudioError
from dualmode.features import MELS, Mels, fbank
from dualmode.language.phrases import PhraseAutomaton
from dualmode.model.subnet import Subnet, named_subnet
from dualmode.progress import Progress, progress_bar
from dualmode.runtime import Floats, Ids, Runtime, RuntimeModel, load_runtime
from dualmode.streams import LARGEST_BATCH, StreamGroup

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
        self._compiler = Compiler(self.tokens, self.recipe.text)

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

    def subnet(self, which: str | Subnet | None = None) -> Subnet:
        """The subnet that a name stands for; without one, server or what the model holds alone.

        Raises:
            SubnetError: no such name, or a sparsity that the model was not trained with.
        """
        which = which or self.recipe.training.subnets[0]
        subnet = named_subnet(which, self.recipe) if isinstance(which, str) else which
        self.model.check(subnet)
        return subnet

    def compile_phrases(self, phrases: Sequence[str] | str | Path) -> PhraseAutomaton:
        """Compile phrases or a grammar once, to be passed as ``phrases`` often.

        Raises:
            LanguageError: they cannot be used.
        """
        return self._compiler.phrases(phrases)

    def transcribe(
        self,
        audio: Audio,
        subnet: str | Subnet | None = None,
        search: SearchName = "greedy",
        *,
        sample_rate_hz: int = SAMPLE_RATE_HZ,
        progress: Progress | bool = False,
        **guidance: Unpack[Guidance],
    ) -> Transcript:
        """Recognise a file of any length, or samples (S,): floats in [-1, 1], or int16.

        Args:
            sample_rate_hz: of samples; files say theirs.
            progress: True shows a bar on stderr; a function is called with the seconds of audio
                done and in all.

        Raises:
            AudioError: it cannot be read, or the samples cannot be used.
            SubnetError: the model holds no such subnet.
        """
        (result,) = self.transcribe_batch(
            [audio], subnet, search, sample_rate_hz=sample_rate_hz, progress=progress, **guidance
        )
        if isinstance(result, AudioError):
            raise result
        return result

    def transcribe_batch(
        self,
        audios: Sequence[Audio],
        subnet: str | Subnet | None = None,
        search: SearchName = "greedy",
        *,
        sample_rate_hz: int = SAMPLE_RATE_HZ,
        progress: Progress | bool = False,
        **guidance: Unpack[Guidance],
    ) -> list[Transcript | AudioError]:
        """Recognise many; one that fails gives its error and the others go on.

        Long audio is divided at quiet places into pieces of at most 30 s, or of the recipe's
        ``data.max_seconds`` if that is less (full context), or streamed (chunked context).

        Args:
            sample_rate_hz, progress: as in :meth:`transcribe`.

        Raises:
            SubnetError: the model holds no such subnet.
        """
        chosen, compiled = self.subnet(subnet), self._compiler.compile(guidance)
        if progress is True:
            with progress_bar("transcribing") as bar:
                return self.transcribe_batch(
                    audios, chosen, search, sample_rate_hz=sample_rate_hz, progress=bar, **guidance
                )
        jobs = AudioJobs(audios, sample_rate_hz, progress or None)
        for batch in grouped(self._pieces(jobs, chosen, search, compiled), BATCH_SECONDS):
            samples = [piece.samples for _, piece in batch]
            found = self._recognize(samples, chosen, search, compiled)
            for (job, piece), outcome in zip(batch, found, strict=True):
                job.outcomes.append(shifted(outcome, piece.start))
                jobs.done(len(piece.samples))
        return jobs.results(self.tokens, compiled.reading)

    def stream(
        self,
        subnet: str | Subnet = "device",
        search: SearchName = "greedy",
        *,
        endpointing: Endpointing | None = Endpointing(),
        keep_finished: bool = True,
        sample_rate_hz: int = SAMPLE_RATE_HZ,
        **guidance: Unpack[Guidance],
    ) -> StreamSession:
        """Open a stream; see :class:`StreamSession`.

        Raises:
            SubnetError: the model holds no such subnet, or it has full context.
        """
        compiled = self._compiler.compile(guidance)
        options = StreamOptions(
            endpointing, self.tail_s, keep_finished, sample_rate_hz, compiled.reading
        )
        return StreamSession(*self._streaming(subnet, search, compiled), self.tokens, options)

    def stream_group(
        self,
        subnet: str | Subnet = "device",
        search: SearchName = "greedy",
        *,
        endpointing: Endpointing | None = Endpointing(),
        keep_finished: bool = True,
        sample_rate_hz: int = SAMPLE_RATE_HZ,
        largest_batch: int = LARGEST_BATCH,
        **guidance: Unpack[Guidance],
    ) -> StreamGroup:
        """Open a group of live streams that advance in one batch; see :class:`StreamGroup`.

        Raises:
            SubnetError: the model holds no such subnet, or it has full context.
        """
        compiled = self._compiler.compile(guidance)
        options = StreamOptions(
            endpointing, self.tail_s, keep_finished, sample_rate_hz, compiled.reading
        )
        parts = self._streaming(subnet, search, compiled)
        return StreamGroup(*parts, self.tokens, options, largest_batch=largest_batch)

    def stream_batch(
        self,
        audios: Sequence[Samples],
        subnet: str | Subnet = "device",
        search: SearchName = "greedy",
        **guidance: Unpack[Guidance],
    ) -> list[Transcript]:
        """Stream samples (S,) of each side by side: what sessions without endpoints would give.

        Raises:
            AudioError: samples that cannot be used.
            SubnetError: the model holds no such subnet, or it has full context.
        """
        group = self.stream_group(subnet, search, endpointing=None, **guidance)
        streams = [group.open() for _ in audios]
        for stream, samples in zip(streams, audios, strict=True):
            stream.push(samples)
            stream.end()
        while group.advance():
            pass
        return [stream.transcript() for stream in streams]

    def _pieces(
        self, jobs: AudioJobs, subnet: Subnet, search: SearchName, compiled: Compiled
    ) -> Iterator[tuple[AudioJob, Piece]]:
        """What to recognise; errors and the text of long streams go straight to their jobs."""
        for job in jobs:
            try:
                if not subnet.streams:
                    for piece in cut_pieces(job.blocks(), self._longest_s):
                        yield job, piece
                    continue
                blocks = job.blocks()
                head = [*islice(blocks, 2)]
                if sum(map(len, head)) > LONGEST_S * SAMPLE_RATE_HZ:
                    parts = self._streaming(subnet, search, compiled)
                    options = StreamOptions(tail_s=self.tail_s)
                    session = StreamSession(*parts, self.tokens, options)
                    for block in chain(head, blocks):
                        session.push(block)
                        jobs.done(len(block))
                    heard = session.finish()
                    hypothesis = Hypothesis(heard.tokens, math.nan, math.nan)
                    job.outcomes.append(Outcome((hypothesis,), heard.margin, heard.rejected))
                else:
                    yield job, Piece(0, np.concatenate([np.zeros(0, np.float32), *head]))
            except AudioError as error:
                job.error = error

    def frames(self, audios: Sequence[Samples], subnet: str | Subnet) -> tuple[Floats, Ids]:
        """Encode samples (S,) of each: frames (B, T, J) and how many of them (B,) are real.

        They can be decoded again and again by :meth:`decode`, as searches are tuned.
        """
        chosen = self.subnet(subnet)
        mels, lengths = _pad([fbank(self._with_tail(samples, chosen)) for samples in audios])
        return self._runtime(chosen).encode(mels, lengths)

    def decode(
        self,
        frames: Floats,
        lengths: Ids,
        subnet: str | Subnet,
        search: SearchName = "greedy",
        **guidance: Unpack[Guidance],
    ) -> list[Outcome]:
        """Decode the result of :meth:`frames`.

        Raises:
            LanguageError: what is known of the text cannot be used.
        """
        compiled = self._compiler.compile(guidance)
        return self._decode(frames, lengths, self.subnet(subnet), search, compiled)

    def _recognize(
        self, audios: Sequence[Samples], subnet: Subnet, search: SearchName, compiled: Compiled
    ) -> list[Outcome]:
        frames, lengths = self.frames(audios, subnet)
        return self._decode(frames, lengths, subnet, search, compiled)

    def _decode(
        self, frames: Floats, lengths: Ids, subnet: Subnet, search: SearchName, compiled: Compiled
    ) -> list[Outcome]:
        searcher = self._search(self._runtime(subnet), search, compiled)
        state = searcher.advance(searcher.start(len(frames)), frames, lengths)
        return searcher.outcomes(searcher.finish(state), compiled.reading.nbest)

    def _streaming(
        self, subnet: str | Subnet, search: SearchName, compiled: Compiled
    ) -> tuple[Runtime, Search[Any]]:
        """The runtime of a subnet and a search over its frames, as streams take them."""
        runtime = self._runtime(self.subnet(subnet))
        return runtime, self._search(runtime, search, compiled)

    def _with_tail(self, samples: Samples, subnet: Subnet) -> Samples:
        return np.concatenate([samples, silence(self.tail_s)]) if subnet.streams else samples

    def _search(self, runtime: Runtime, name: SearchName, compiled: Compiled) -> Search[Any]:
        penalty = self.recipe.decoding.blank_penalty
        if name == "beam" or compiled.needs_beam:
            return BeamSearch(runtime, self.beam_width, penalty, compiled.fusion)
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


def _pad(features: Sequence[Mels]) -> tuple[Floats, Ids]:
    """Stack mel frames (M, 80) of B utterances to (B, M, 80) with their lengths (B,)."""
    lengths = np.array([len(mels) for mels in features], dtype=np.int64)
    padded = np.zeros((len(features), int(lengths.max(initial=0)), MELS), np.float32)
    for row, mels in zip(padded, features, strict=True):
        row[: len(mels)] = mels
    return padded, lengths
