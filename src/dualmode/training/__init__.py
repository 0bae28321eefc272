"""Training: the loop, its objectives, schedules and checkpoints."""
