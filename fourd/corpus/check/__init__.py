"""Verify what a corpus holds: fingerprints, a decoded sample of everything, and a picture to look at."""

from fourd.corpus.check.apply import apply, require_applicable
from fourd.corpus.check.report import Problem, Report, problem_list
from fourd.corpus.check.run import CheckConfig, check
from fourd.corpus.check.subjects import Subject, subjects_of

__all__ = [
    "CheckConfig",
    "Problem",
    "Report",
    "Subject",
    "apply",
    "check",
    "problem_list",
    "require_applicable",
    "subjects_of",
]
