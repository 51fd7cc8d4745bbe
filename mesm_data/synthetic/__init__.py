"""Small synthetic corpora in the layouts of the real corpora, always called synthetic."""
