"""The dataset format: canonical tar, manifest, reader. The only part of this package that trainers import."""
