"""What a corpus says of itself: its label schemes, views, splits and licence. Recorded whole in dataset.json."""
