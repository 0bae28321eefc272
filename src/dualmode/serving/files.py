"""Uploaded files, recognised part by part, so that memory does not grow with duration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dualmode.audio import SAMPLE_RATE_HZ
from dualmode.decoding.pieces import LONGEST_S, cut_pieces
from dualmode.decoding.transcript import Transcript, transcript_of
from dualmode.recognizer import Recognizer
from dualmode.serving.containers import stream_upload
from dualmode.serving.lanes import shifted

_BLOCK_S = 5.0


def transcripts(recognizer: Recognizer, path: Path, subnet: str) -> Iterator[Transcript]:
    """Transcripts of the parts of a file, in order, with times from its start.

    Parts are the pieces of ``Recognizer.transcribe`` for server, and the segments of a stream for
    device. Joined, they equal the transcript of the whole file.

    Raises:
        AudioError: the file cannot be read.
    """
    if recognizer.subnet(subnet).streams:
        return _segments(recognizer, path, subnet)
    return _pieces(recognizer, path, subnet)


def _pieces(recognizer: Recognizer, path: Path, subnet: str) -> Iterator[Transcript]:
    longest_s = max(2.0, min(LONGEST_S, recognizer.recipe.data.max_seconds))
    for piece in cut_pieces(stream_upload(path), longest_s, recognizer.framing):
        transcript = recognizer.transcribe(piece.samples, subnet)
        yield shifted(transcript, piece.start, recognizer.framing)


def _segments(recognizer: Recognizer, path: Path, subnet: str) -> Iterator[Transcript]:
    session = recognizer.stream(subnet, keep_finished=False)
    samples = 0
    for block in stream_upload(path, _BLOCK_S):
        samples += len(block)
        partial = session.push(block)
        yield from partial.finished if partial is not None else ()
        # Empty, but lets the caller stop if its client has disconnected.
        yield Transcript((), samples / SAMPLE_RATE_HZ)
    yield session.finish()


def joined(recognizer: Recognizer, parts: list[Transcript]) -> Transcript:
    """Join the transcripts of a file's parts, including words cut between two parts."""
    tokens = [token for part in parts for token in part.tokens]
    seconds = max((part.seconds for part in parts), default=0.0)
    frame_s = recognizer.framing.frame_s
    return transcript_of(tokens, recognizer.tokens, seconds, frame_s, recognizer.calibration)


def begins_word(recognizer: Recognizer, part: Transcript) -> bool:
    """Whether the text of a part begins a new word instead of continuing a cut one."""
    return not part.tokens or recognizer.tokens.word_starts[part.tokens[0].id]
