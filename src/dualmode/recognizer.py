"""The main entry point: load a model, transcribe audio, and open streams."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from dualmode.audio import SAMPLE_RATE_HZ, Samples
from dualmode.decoding.beams import BeamSearches
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
from dualmode.features import Framing, fbank_batch
from dualmode.language.phrases import PhraseAutomaton
from dualmode.model.subnet import Subnet, named_subnet
from dualmode.progress import Progress, progress_bar
from dualmode.runtime import Floats, Ids, Runtime, RuntimeModel, load_runtime
from dualmode.streams import LARGEST_BATCH, StreamGroup

BATCH_SECONDS = 120.0  # audio in a batch


class Recognizer:
    """All recognisers of one supernet.

    Methods take ``subnet`` as a name, ``server`` or ``device``, or as a :class:`Subnet` with any
    chunk and look-ahead, and any sparsity that the model was trained with.

    Args:
        model: a model loaded by a runtime; see :meth:`load`.
        beam_width: number of hypotheses of ``search="beam"``.
        tail_s: silence, in seconds, appended to audio for subnets that stream, since they may
            emit the last words after the end of the audio.
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
        self.framing = Framing(self.recipe.model.frame_ms)
        self.beam_width = beam_width
        self.tail_s = tail_s
        # With full context, pieces are not longer than the utterances of training.
        self._longest_s = max(2.0, min(LONGEST_S, self.recipe.data.max_seconds))
        self._opened: dict[Subnet, Runtime] = {}
        self._beams = BeamSearches(beam_width, self.recipe.decoding.blank_penalty)
        self._compiler = Compiler(self.tokens, self.recipe.text, self.recipe.decoding)
        self.calibration = self._compiler.calibration  # of the confidences of words

    @classmethod
    def load(
        cls, path: str | Path, runtime: str | None = None, device: str = "cpu", **options: Any
    ) -> Recognizer:
        """Load a model.

        Args:
            path: a model directory, the name of a shipped model, an ONNX export, or an artifact of
                the engine.
            runtime: ``torch``, ``onnx`` or ``engine``; by default the one for ``path``.
            device: ``cpu`` or ``cuda``.
            options: ``beam_width`` and ``tail_s``, see :class:`Recognizer`.

        Raises:
            ModelError: the model is missing, incomplete or corrupt, or the runtime is unknown.
        """
        return cls(load_runtime(path, runtime, device), **options)

    def keep_only(self, subnet: str | Subnet) -> None:
        """Free the weights that ``subnet`` does not need; using another subnet then fails.

        Raises:
            SubnetError: the model does not contain the subnet.
        """
        self.model.keep_only(self.subnet(subnet))
        self._opened.clear()
        self._beams.clear()

    def subnet(self, name: str | Subnet | None = None) -> Subnet:
        """Resolve a name to a subnet. None is server, or the only subnet of the model.

        Raises:
            SubnetError: the name is unknown, or the model was not trained with the sparsity.
        """
        name = name or self.recipe.training.subnets[0]
        subnet = named_subnet(name, self.recipe) if isinstance(name, str) else name
        self.model.check(subnet)
        return subnet

    def compile_phrases(self, phrases: Sequence[str] | str | Path) -> PhraseAutomaton:
        """Compile phrases or a grammar for repeated use as ``phrases``.

        Raises:
            LanguageError: phrases or grammar are invalid.
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
            audio: path of a file, or samples.
            subnet: name or value; None is server, or the only subnet of the model.
            search: ``greedy`` or ``beam``.
            sample_rate_hz: sample rate of samples; ignored for files.
            progress: True shows a bar on stderr; a function is called with the seconds of audio
                done and in total.
            guidance: knowledge of the text; see :class:`~dualmode.decoding.guidance.Guidance`.

        Raises:
            AudioError: the file cannot be read, or the samples are invalid.
            SubnetError: the model does not contain the subnet.
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
        """Recognise several files or samples; an error is returned in place of a transcript.

        With full context, long audio is divided at quiet places into pieces of at most 30 s, or
        of the recipe's ``data.max_seconds`` if that is less. With chunked context it is streamed.

        Args:
            sample_rate_hz, progress: as in :meth:`transcribe`.

        Raises:
            SubnetError: the model does not contain the subnet.
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
        return jobs.results(self.tokens, compiled.reading, self.framing.frame_s)

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
            SubnetError: the model does not contain the subnet, or it has full context.
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
            SubnetError: the model does not contain the subnet, or it has full context.
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
        """Stream several arrays of samples (S,) as one batch, as sessions without endpointing.

        Raises:
            AudioError: samples are invalid.
            SubnetError: the model does not contain the subnet, or it has full context.
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
        """Pieces to recognise; errors and the text of long streams are stored in their jobs."""
        for job in jobs:
            try:
                if not subnet.streams:
                    for piece in cut_pieces(job.blocks(), self._longest_s, self.framing):
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
                    result = session.finish()
                    hypothesis = Hypothesis(result.tokens, math.nan, math.nan)
                    job.outcomes.append(Outcome((hypothesis,), result.margin, result.rejected))
                else:
                    yield job, Piece(0, np.concatenate([np.zeros(0, np.float32), *head]))
            except AudioError as error:
                job.error = error

    def frames(self, audios: Sequence[Samples], subnet: str | Subnet) -> tuple[Floats, Ids]:
        """Encode arrays of samples (S,) to frames (B, T, J) and numbers of valid frames (B,).

        Frames can be decoded repeatedly by :meth:`decode`, for example to tune a search.
        """
        chosen = self.subnet(subnet)
        mels, lengths = fbank_batch([self._with_tail(samples, chosen) for samples in audios])
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
            LanguageError: the guidance is invalid.
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
        """The runtime of a subnet and a search over its frames, for streams."""
        runtime = self._runtime(self.subnet(subnet))
        return runtime, self._search(runtime, search, compiled)

    def _with_tail(self, samples: Samples, subnet: Subnet) -> Samples:
        return np.concatenate([samples, silence(self.tail_s)]) if subnet.streams else samples

    def _search(self, runtime: Runtime, name: SearchName, compiled: Compiled) -> Search[Any]:
        penalty = self.recipe.decoding.blank_penalty
        if name == "beam" or compiled.needs_beam:
            return self._beams.get(runtime, compiled.fusion)
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
    """Load a model; see :meth:`Recognizer.load`."""
    return Recognizer.load(path, runtime, device, **options)
