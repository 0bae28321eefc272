"""The claim that dualmode stands on, as a command: see ``python -m benchmarks.claim --help``."""
