"""Learn about space and time from raw video: the open system of *Scaling 4D Representations*."""

__version__ = "0.1.0"
