"""Readers of corpora: from the files on disk to a table of utterances with labels. No media is decoded."""
