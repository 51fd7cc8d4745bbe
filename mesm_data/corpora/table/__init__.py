"""Any corpus that is described by a table of utterances and, optionally, a corpus.toml."""
