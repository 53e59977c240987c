"""Training: optimizer, strategies, the loop, checkpoints and metrics."""
