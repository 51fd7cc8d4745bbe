"""Metrics of predictions, independent of models and runs."""
