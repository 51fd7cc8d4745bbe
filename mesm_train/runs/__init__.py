"""A run on disk: begun, resumed, evaluated again."""
