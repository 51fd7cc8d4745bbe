"""The schema of a corpus: recordings, label schemes, views, splits, licence. Recorded in dataset.json."""
