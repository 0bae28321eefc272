"""Paired comparison of two models on the same utterances, corpus by corpus."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualmode.errors import DataError
from dualmode.evaluation.significance import compare
from dualmode.evaluation.wer import word_errors

_NOT_RECOGNISERS = {"id", "corpus", "speaker", "ref"}

Utterances = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class PairedDifference:
    """Word error rates of one recogniser in two models, and their difference.

    Attributes:
        first, second: word error rates.
        difference: second minus first; ``relative`` to the first.
        ci95: 95 % interval of the difference, by a bootstrap of speakers within each corpus where
            every speaker is known, and of utterances otherwise.
        p_value: two-sided, by exchanging the models in each speaker or utterance at random.
        speakers: None where utterances were drawn. Speakers of the same name in two corpora are
            two speakers.
    """

    first: float
    second: float
    difference: float
    relative: float
    ci95: tuple[float, float]
    p_value: float
    utterances: int
    speakers: int | None


def read_utterances(path: Path) -> Utterances:
    """Read a file written by ``dualmode evaluate --utterances``, by utterance id.

    Raises:
        DataError: the file is missing or has another format.
    """
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return {
            line["id"]: {"speaker": "", "corpus": "", **line, "ref": line["ref"]} for line in lines
        }
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise DataError(
            f"{path} does not contain utterances: write it with dualmode evaluate --utterances"
        ) from None


def shared_ids(first: Utterances, second: Utterances) -> list[str]:
    """Ids of the utterances in both files.

    Raises:
        DataError: there are none, or references differ.
    """
    both = sorted(first.keys() & second.keys())
    if not both:
        raise DataError("the two files have no utterance in common")
    for name in both:
        if first[name]["ref"] != second[name]["ref"]:
            raise DataError(f"{name}: the references differ; use the same text normalisation")
    return both


def paired_difference(
    first: Utterances, second: Utterances, ids: list[str], recogniser: str
) -> PairedDifference:
    """Compare one recogniser of two models on the utterances ``ids``."""
    references = [first[name]["ref"] for name in ids]
    before, after = (
        word_errors(references, [lines[name][recogniser] for name in ids])
        for lines in (first, second)
    )
    speakers = [first[name]["speaker"] for name in ids]
    corpora = [first[name]["corpus"] for name in ids]
    known = len(set(zip(corpora, speakers, strict=True))) if all(speakers) else 0
    comparison = compare(after, before, speakers if known > 1 else None, corpora)
    return PairedDifference(
        before.rate,
        after.rate,
        comparison.difference,
        comparison.difference / before.rate if before.rate else float("nan"),
        comparison.ci95,
        comparison.p_value,
        len(ids),
        known if known > 1 else None,
    )


def compare_utterances(
    first: Utterances, second: Utterances
) -> dict[str, dict[str, PairedDifference]]:
    """Compare every recogniser of both models on each corpus and on ``all`` corpora.

    Raises:
        DataError: the files have no utterances or recognisers in common, or references differ.
    """
    ids = shared_ids(first, second)
    corpora: dict[str, list[str]] = {"all": ids}
    for name in ids:
        corpora.setdefault(first[name]["corpus"] or "(no name)", []).append(name)
    names = [n for n in first[ids[0]] if n in second[ids[0]] and n not in _NOT_RECOGNISERS]
    if not names:
        raise DataError("the two files have no recogniser in common")
    return {
        name: {
            corpus: paired_difference(first, second, rows, name) for corpus, rows in corpora.items()
        }
        for name in names
    }
