"""Feature sets: matrices of numbers per utterance, computed beside the shards for two-phase systems.

See docs/features.md. `feature_set.open_set` reads one, `writer.write_features` computes one.
"""
