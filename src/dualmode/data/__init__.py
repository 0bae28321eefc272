"""Training and evaluation data: tables and CutSets, augmentation, batches."""
