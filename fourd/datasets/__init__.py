"""Datasets: each module gives clips by number, converted to our conventions. Here stands what readers are built on."""

from fourd.datasets._labelled import About, Found, LabelledConfig, LabelledDataset, Recording
from fourd.datasets._sampling import FrameNumbers, RandomWindow, Segments, Spread, Windows
from fourd.datasets._view import Labelled

__all__ = [
    "About",
    "Found",
    "FrameNumbers",
    "Labelled",
    "LabelledConfig",
    "LabelledDataset",
    "RandomWindow",
    "Recording",
    "Segments",
    "Spread",
    "Windows",
]
