"""The report of a run: one page with its data, scores, mistakes, training, cost and provenance."""
