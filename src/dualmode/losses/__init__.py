"""Training losses: the pruned transducer loss and its parts, distillation, contrastive loss."""
