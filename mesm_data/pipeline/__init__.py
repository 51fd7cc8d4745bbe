"""The build: scan a corpus, process one recording per job, pack the parts into shards."""
