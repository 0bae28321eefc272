"""Results of an evaluation, as values, as JSON and as a table."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from dualmode.evaluation.latency import EmissionDelay
from dualmode.evaluation.significance import bootstrap_interval
from dualmode.evaluation.utterances import Skipped, Utterance
from dualmode.evaluation.wer import ErrorCounts, character_errors, word_errors
from dualmode.features import Framing
from dualmode.model.subnet import ChunkedContext, Subnet
from dualmode.whole_files import replace_text, replacing


@dataclass(frozen=True)
class Scores:
    """Word and character errors of N utterances, with their speakers and corpora."""

    words: ErrorCounts
    characters: ErrorCounts
    speakers: tuple[str, ...]
    corpora: tuple[str, ...]

    @staticmethod
    def of(utterances: Sequence[Utterance], hypotheses: Sequence[str]) -> Scores:
        references = [u.reference for u in utterances]
        return Scores(
            word_errors(references, hypotheses),
            character_errors(references, hypotheses),
            tuple(u.speaker for u in utterances),
            tuple(u.corpus for u in utterances),
        )

    def select(self, rows: Sequence[int]) -> Scores:
        """Return the scores of some of the utterances."""
        return Scores(
            self.words.select(rows),
            self.characters.select(rows),
            tuple(self.speakers[row] for row in rows),
            tuple(self.corpora[row] for row in rows),
        )

    def to_dict(self) -> dict[str, Any]:
        """Convert to a dict. Rates are fractions; the interval by speakers needs all speakers. Both
        intervals draw within corpora."""
        scores: dict[str, Any] = {
            "wer": self.words.rate,
            "cer": self.characters.rate,
            "ci95": list(bootstrap_interval(self.words, strata=self.corpora)),
        }
        if all(self.speakers) and len(set(self.speakers)) > 1:
            by_speaker = bootstrap_interval(self.words, self.speakers, self.corpora)
            scores["ci95_speakers"] = list(by_speaker)
        return scores | {
            "utterances": len(self.speakers),
            "words": int(self.words.reference.sum()),
            "insertions": int(self.words.insertions.sum()),
            "deletions": int(self.words.deletions.sum()),
            "substitutions": int(self.words.substitutions.sum()),
        }


@dataclass(frozen=True)
class Latency:
    """What determines the latency of a recogniser that streams.

    Attributes:
        framing: of the model.
        delay: measured emission delay.
        reference: source of the ends of words, ``alignment`` or ``server``.
    """

    framing: Framing
    delay: EmissionDelay
    reference: str


@dataclass(frozen=True)
class SubnetResult:
    """One recogniser on all utterances.

    Attributes:
        processing_s: seconds spent on features, network and search, excluding reading files.
        latency: of subnets that stream.
    """

    subnet: Subnet
    hypotheses: tuple[str, ...]
    scores: Scores
    processing_s: float
    latency: Latency | None = None

    @property
    def delay(self) -> EmissionDelay | None:
        """Emission delay of a subnet that streams."""
        return None if self.latency is None else self.latency.delay

    def latency_ms(self) -> dict[str, Any] | None:
        """Algorithmic latency (chunk, look-ahead, their sum) and measured emission delay."""
        context = self.subnet.context
        if self.latency is None or not isinstance(context, ChunkedContext):
            return None
        frame_ms, delay = self.latency.framing.frame_ms, self.latency.delay
        return {
            "chunk": context.chunk * frame_ms,
            "lookahead": context.lookahead * frame_ms,
            "worst_case": context.window * frame_ms,
            "emission_median": delay.median_ms,
            "emission_p90": delay.p90_ms,
            "emission_words": delay.words,
            "reference": self.latency.reference,
        }


@dataclass(frozen=True)
class Evaluation:
    """Results of one or several recognisers on the same utterances."""

    utterances: tuple[Utterance, ...]
    results: dict[str, SubnetResult]
    skipped: tuple[Skipped, ...] = ()
    threads: int = 1

    @property
    def seconds(self) -> float:
        """Duration of the scored audio."""
        return sum(u.seconds for u in self.utterances)

    @property
    def corpora(self) -> dict[str, list[int]]:
        """Indices of the utterances of each corpus."""
        rows: dict[str, list[int]] = {}
        for row, utterance in enumerate(self.utterances):
            rows.setdefault(utterance.corpus, []).append(row)
        return dict(sorted(rows.items()))

    def to_dict(self) -> dict[str, Any]:
        """Convert to a JSON tree with one key per recogniser. Rates are fractions; nan is None."""
        return {name: _jsonable(self._result_dict(result)) for name, result in self.results.items()}

    def write_json(self, path: str | Path) -> None:
        """Write the result of ``to_dict`` as JSON."""
        replace_text(path, json.dumps(self.to_dict(), indent=2) + "\n")

    def write_utterances(self, path: str | Path) -> None:
        """Write one JSON line per utterance, with the reference and each hypothesis."""
        with replacing(path) as part, part.open("w", encoding="utf-8") as file:
            for row, u in enumerate(self.utterances):
                line = {"id": u.id, "corpus": u.corpus, "speaker": u.speaker, "ref": u.reference}
                line |= {name: result.hypotheses[row] for name, result in self.results.items()}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def table(self) -> Table:
        """Make a rich table with one row per recogniser and corpus."""
        table = Table(title=f"{len(self.utterances)} utterances, {self.seconds / 60:.1f} minutes")
        for header in ("recogniser", "corpus", "WER %", "95 %", "CER %", "ins/del/sub", "words"):
            table.add_column(
                header, justify="left" if header in {"recogniser", "corpus"} else "right"
            )
        for header in ("RTF", "delay ms"):
            table.add_column(header, justify="right")
        for name, result in self.results.items():
            delay = result.delay
            speed = f"{result.processing_s / self.seconds:.4f}" if self.seconds else ""
            late = f"{delay.median_ms:.0f} (p90 {delay.p90_ms:.0f})" if delay else ""
            table.add_row(name, "all", *_cells(result.scores), speed, late)
            if len(self.corpora) > 1:
                for corpus, rows in self.corpora.items():
                    table.add_row("", corpus, *_cells(result.scores.select(rows)), "", "")
        return table

    def _result_dict(self, result: SubnetResult) -> dict[str, Any]:
        entry = result.scores.to_dict()
        entry |= {
            "rtf": result.processing_s / self.seconds if self.seconds else float("nan"),
            "seconds": self.seconds,
            "threads": self.threads,
            "skipped": len(self.skipped),
            "sparsity": result.subnet.sparsity,
        }
        latency = result.latency_ms()
        if latency is not None:
            entry["latency_ms"] = latency
        corpora = {c: result.scores.select(rows).to_dict() for c, rows in self.corpora.items()}
        return entry | {"corpora": corpora}


def _cells(scores: Scores) -> tuple[str, ...]:
    entry = scores.to_dict()
    low, high = entry["ci95"]
    return (
        f"{100 * entry['wer']:.2f}",
        f"{100 * low:.2f} to {100 * high:.2f}",
        f"{100 * entry['cer']:.2f}",
        f"{entry['insertions']}/{entry['deletions']}/{entry['substitutions']}",
        f"{entry['words']}",
    )


def _jsonable(value: Any) -> Any:
    """Replace nan, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _jsonable(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_jsonable(inner) for inner in value]
    if isinstance(value, float) and math.isnan(value):
        return None
    return value
