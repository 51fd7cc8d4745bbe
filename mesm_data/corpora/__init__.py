"""Corpora on disk -> a table of utterances with labels. No media is decoded here."""
