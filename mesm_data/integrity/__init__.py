"""Verification: bytes, content, fingerprint of the source files, recipe.lock."""
