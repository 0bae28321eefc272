"""Search over a scorer: greedy, beam, streams."""
