"""Score the recognisers of a model on CutSets: accuracy, speed and latency in one value."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from lhotse import CutSet
from lhotse.cut import Cut

from dualmode.audio import Samples
from dualmode.decoding.guidance import Guidance
from dualmode.decoding.search import SearchName
from dualmode.decoding.transcript import Transcript
from dualmode.errors import AudioError, DataError
from dualmode.evaluation.latency import (
    TimedWord,
    matches,
    summarize,
    word_delays_s,
)
from dualmode.evaluation.results import Evaluation, Latency, Scores, SubnetResult
from dualmode.evaluation.utterances import (
    BATCH_SECONDS,
    Skipped,
    Utterance,
    scorable_batches,
    word_ends_s,
)
from dualmode.language.written import written_text
from dualmode.model.subnet import SERVER, Subnet
from dualmode.recognizer import Recognizer, load

Progress = Callable[[float, float], None]


def evaluate(
    model: Recognizer | str | Path,
    cuts: CutSet,
    subnets: Sequence[str] | Mapping[str, Subnet] = ("server", "device"),
    *,
    search: SearchName = "greedy",
    batch_seconds: float = BATCH_SECONDS,
    progress: Progress | None = None,
    guidance: Guidance | None = None,
) -> Evaluation:
    """Score recognisers on cuts with transcripts.

    Subnets with chunked context are streamed, many utterances in one batch; subnets with full
    context recognise whole utterances. Cuts that cannot be read or normalised are listed in
    ``skipped``.

    Args:
        model: a recogniser or a model directory.
        cuts: the utterances.
        subnets: names, or a mapping from names to subnets.
        search: ``greedy`` or ``beam``.
        batch_seconds: audio in a batch; it affects the speed, not the text.
        progress: called with the seconds done and the seconds in total.
        guidance: knowledge of the text. If it selects the written form, references and
            hypotheses are compared in written form.

    Raises:
        DataError: no cut can be scored.
        SubnetError: the model does not contain the subnet.
        ModelError: the directory is not a model.
    """
    recognizer = model if isinstance(model, Recognizer) else load(model)
    named = subnets if isinstance(subnets, Mapping) else {name: name for name in subnets}
    known: Guidance = guidance or {}
    runs = {
        name: _Run(recognizer, recognizer.subnet(subnet), search, known)
        for name, subnet in named.items()
    }
    return _Evaluator(recognizer, runs, batch_seconds, progress).run(list(cuts))


class _Run:
    """One recogniser while it is being scored."""

    def __init__(
        self, recognizer: Recognizer, subnet: Subnet, search: SearchName, guidance: Guidance
    ) -> None:
        self.recognizer = recognizer
        self.subnet = subnet
        self.search = search
        self.guidance = guidance
        self.processing_s = 0.0
        self.transcripts: list[Transcript] = []

    def recognise(self, batch: list[Samples]) -> None:
        start = time.perf_counter()
        if self.subnet.streams:
            transcripts = self.recognizer.stream_batch(
                batch, self.subnet, self.search, **self.guidance
            )
        else:
            results = self.recognizer.transcribe_batch(
                batch, self.subnet, self.search, **self.guidance
            )
            transcripts = _raise_errors(results)
        self.processing_s += time.perf_counter() - start
        self.transcripts += transcripts


@dataclass
class _Evaluator:
    recognizer: Recognizer
    runs: dict[str, _Run]
    batch_seconds: float
    progress: Progress | None
    utterances: list[Utterance] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    def run(self, cuts: list[Cut]) -> Evaluation:
        streams = any(run.subnet.streams for run in self.runs.values())
        aligned = any(word_ends_s(cut) for cut in cuts)
        # Without alignments, server provides the ends of words.
        server = next((r for r in self.runs.values() if r.subnet == SERVER), None)
        helper = _Run(self.recognizer, SERVER, "greedy", {})
        needs_helper = streams and not aligned and server is None
        active = [*self.runs.values(), *([helper] if needs_helper else [])]
        total = sum(cut.duration for cut in cuts)
        text = self.recognizer.recipe.text
        for batch in scorable_batches(cuts, text, self.skipped, self.batch_seconds):
            for run in active:
                run.recognise([samples for _, samples in batch])
            self.utterances += [utterance for utterance, _ in batch]
            if self.progress:
                self.progress(sum(u.seconds for u in self.utterances), total)
        if not self.utterances:
            first = f"; the first: {self.skipped[0].why}" if self.skipped else ""
            raise DataError(f"none of {len(cuts)} cuts can be scored{first}")
        timed = self._timed_words((server or helper).transcripts, aligned)
        reference = "alignment" if aligned else "server"
        return Evaluation(
            tuple(self._written(utterance) for utterance in self.utterances),
            {name: self._result(run, timed, reference) for name, run in self.runs.items()},
            tuple(self.skipped),
            torch.get_num_threads(),
        )

    def _written(self, utterance: Utterance) -> Utterance:
        """The utterance with its text in the form that is compared."""
        if not any(run.guidance.get("written", False) for run in self.runs.values()):
            return utterance
        return replace(utterance, reference=written_text(utterance.reference))

    def _timed_words(self, server: list[Transcript], aligned: bool) -> list[list[TimedWord]]:
        """For each utterance, the words of the reference with their ends, if known."""
        timed = []
        for row, utterance in enumerate(self.utterances):
            words = utterance.reference.split()
            ends = dict(enumerate(utterance.word_ends_s))
            if not aligned and server:
                recognised = server[row].words
                pairs = matches(words, [word.text for word in recognised])
                ends = {at: recognised[where].end_s for at, where in pairs}
            timed.append([TimedWord(word, ends.get(at)) for at, word in enumerate(words)])
        return timed

    def _result(self, run: _Run, timed: list[list[TimedWord]], reference: str) -> SubnetResult:
        written = run.guidance.get("written", False)
        hypotheses = tuple(t.written_text if written else t.text for t in run.transcripts)
        scores = Scores.of([self._written(u) for u in self.utterances], hypotheses)
        if not run.subnet.streams:
            return SubnetResult(run.subnet, hypotheses, scores, run.processing_s)
        tokens, framing = self.recognizer.tokens, self.recognizer.framing
        delays = [
            delay
            for transcript, words in zip(run.transcripts, timed, strict=True)
            for delay in word_delays_s(transcript, words, tokens, run.subnet, framing)
        ]
        latency = Latency(framing, summarize(delays), reference)
        return SubnetResult(run.subnet, hypotheses, scores, run.processing_s, latency)


def _raise_errors(results: list[Transcript | AudioError]) -> list[Transcript]:
    """Raise the first error: samples were checked when they were read, so there should be none."""
    for result in results:
        if isinstance(result, AudioError):
            raise result
    return [result for result in results if isinstance(result, Transcript)]
