"""The models: published sizes by default, packed batches in, logits out."""
