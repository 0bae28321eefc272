"""From tables and CutSets to batches."""
