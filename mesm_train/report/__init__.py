"""The report of a run as one page: provenance, scores, and the sites that the model selected."""
