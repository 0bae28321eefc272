"""Uploaded files, recognised part by part, so that an hour needs no more memory than a minute."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dualmode.audio import SAMPLE_RATE_HZ, stream_audio
from dualmode.decoding.pieces import LONGEST_S, cut_pieces
from dualmode.decoding.transcript import Transcript, transcript_of
from dualmode.recognizer import Recognizer
from dualmode.serving.lanes import shifted

_BLOCK_S = 5.0


def transcripts(recognizer: Recognizer, path: Path, subnet: str) -> Iterator[Transcript]:
    """The transcripts of a file's parts, in order, with times from its start.

    Server's parts are the pieces that ``Recognizer.transcribe`` cuts, device's are the segments
    of a stream; joined, they are what it gives of the whole file.

    Raises:
        AudioError: the file cannot be read.
    """
    if recognizer.subnet(subnet).streams:
        return _segments(recognizer, path, subnet)
    return _pieces(recognizer, path, subnet)


def _pieces(recognizer: Recognizer, path: Path, subnet: str) -> Iterator[Transcript]:
    longest_s = max(2.0, min(LONGEST_S, recognizer.recipe.data.max_seconds))
    for piece in cut_pieces(stream_audio(path), longest_s):
        found = recognizer.transcribe(piece.samples, subnet)
        yield shifted(found, piece.start)


def _segments(recognizer: Recognizer, path: Path, subnet: str) -> Iterator[Transcript]:
    session = recognizer.stream(subnet, keep_finished=False)
    samples = 0
    for block in stream_audio(path, _BLOCK_S):
        samples += len(block)
        partial = session.push(block)
        yield from partial.finished if partial is not None else ()
        # Empty, but a place to stop for a client that has gone.
        yield Transcript((), samples / SAMPLE_RATE_HZ)
    yield session.finish()


def joined(recognizer: Recognizer, parts: list[Transcript]) -> Transcript:
    """One transcript of a file's parts; a word that was cut between two is whole again."""
    tokens = [token for part in parts for token in part.tokens]
    seconds = max((part.seconds for part in parts), default=0.0)
    return transcript_of(tokens, recognizer.tokens, seconds)


def begins_word(recognizer: Recognizer, part: Transcript) -> bool:
    """Whether a part's text begins a word, and not within one that was cut."""
    return not part.tokens or recognizer.tokens.word_starts[part.tokens[0].id]
