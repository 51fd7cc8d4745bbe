"""Comparisons between runs."""
