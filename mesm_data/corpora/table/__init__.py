"""Corpora that a table of utterances and, optionally, a corpus.toml describe."""
