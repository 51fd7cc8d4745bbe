"""Publishes a dataset to a folder or a store, and fetches it: complete and checked, or not at all.

URL/README.md        the card: content, terms and use
URL/splits.json      the splits of the corpus by name, with digests and without ids
URL/published.json   the tier, and size and sha256 of every file; in the tier `recipe` the last file that is uploaded
URL/dataset.json     the last file of all: readers who find it find everything that it names
URL/recipe.lock, manifest.parquet, failures.csv, shards/, video/    as in the dataset's folder
"""
