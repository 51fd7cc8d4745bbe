"""Metrics of predictions. Nothing here knows a model or a run."""
