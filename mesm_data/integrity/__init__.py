"""Is a dataset what it claims to be? Byte verification, content checks, fingerprints, recipe.lock."""
