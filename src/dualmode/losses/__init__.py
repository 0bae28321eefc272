"""Training losses: the pruned transducer loss and what it is built from."""
