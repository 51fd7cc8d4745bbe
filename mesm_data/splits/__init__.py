"""Splits: which utterances train, which choose thresholds and checkpoints, which are tested."""
