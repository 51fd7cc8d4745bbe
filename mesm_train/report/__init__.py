"""The report of a run: one page that shows what it was made of, what it scored, and where the model looked."""
