"""Decoding and encoding of media: frames by presentation time, audio by sample, faces, clips."""
