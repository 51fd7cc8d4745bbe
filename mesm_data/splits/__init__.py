"""Splits: the utterances for training, for validation, and for testing."""
