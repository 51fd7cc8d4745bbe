"""Look at a dataset in a browser: filter its utterances, see and hear each of them."""
