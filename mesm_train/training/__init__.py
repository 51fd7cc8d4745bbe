"""Training: setup, loop, checkpoints, distributed ranks."""
