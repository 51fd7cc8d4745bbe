"""The shard format: canonical tar, index, manifest, reader. The only part of this package that trainers import."""
