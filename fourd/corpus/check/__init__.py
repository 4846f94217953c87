"""Verify what a corpus holds: fingerprints, a decoded sample of everything, and a picture to look at."""

from fourd.corpus.check.run import CheckConfig, Problem, Report, check

__all__ = ["CheckConfig", "Problem", "Report", "check"]
