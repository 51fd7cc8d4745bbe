"""Decode once, cut many: frames by presentation time, audio by sample, faces, clips."""
