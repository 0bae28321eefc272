"""Word errors, latency and reports."""
