"""Files on disk and in object stores: atomic writes, JSON, locks, downloads, the cache."""
