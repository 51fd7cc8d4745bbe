"""Raw emotion corpora to aligned, verifiable WebDataset shards."""
