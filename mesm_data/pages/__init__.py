"""Self-contained HTML pages: one file each, from which no request leaves."""
