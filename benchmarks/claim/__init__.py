"""Measures the main claim of dualmode; see ``python -m benchmarks.claim --help``."""
