"""Evaluation: word errors, latency and a linear probe."""
