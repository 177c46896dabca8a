"""The training loop: one loop for every model and loss."""
