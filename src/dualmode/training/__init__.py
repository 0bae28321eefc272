"""The loop, its objective, the pruning schedule, checkpoints."""
