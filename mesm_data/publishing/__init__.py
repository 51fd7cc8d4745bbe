"""A dataset is published to a folder or a store and fetched from it: whole and checked, or not at all.

URL/README.md        the card: what this is, under which terms, how it may be used
URL/splits.json      the splits of the corpus by name, with digests, not their ids
URL/published.json   the tier, and size and sha256 of every file; without media the last file that is written
URL/dataset.json     the last file of all: who finds it finds everything that it names
URL/recipe.lock, manifest.parquet, failures.csv, shards/, video/    as in the dataset's folder
"""
