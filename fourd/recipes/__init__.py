"""Runs as functions: each returns one complete, typed config."""
