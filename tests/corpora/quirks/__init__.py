"""The oddities of the real corpora, planted in a finished synthetic corpus, each with its expected result."""
