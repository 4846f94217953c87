"""Corpora: films encoded once for training, checked, and measured. Nothing here is imported until it is used."""
