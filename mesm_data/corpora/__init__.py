"""Readers of corpora: from the raw files to utterances with labels. No media is decoded."""
