"""Two-phase systems: models on features that were computed before training (see docs/two-phase.md)."""
