"""Thin Typer apps: every command is one call into the library."""
