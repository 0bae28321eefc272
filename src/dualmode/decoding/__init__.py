"""Decoding: greedy and beam search, streams, transcripts."""
