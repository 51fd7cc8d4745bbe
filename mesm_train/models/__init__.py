"""FE2E and MESM: packed batches in, logits out; the published sizes by default."""
