"""The schema of a corpus: label schemes, views, splits and licence. dataset.json contains all of it."""
