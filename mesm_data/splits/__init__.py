"""Splits into training, validation and test utterances: rules and published lists."""
