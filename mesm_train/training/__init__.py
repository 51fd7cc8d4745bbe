"""Training: setup, loop, checkpoints, and the ranks of a distributed run."""
