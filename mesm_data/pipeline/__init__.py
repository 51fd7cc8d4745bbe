"""The build: scan a corpus, build one recording per job, pack the parts into shards."""
