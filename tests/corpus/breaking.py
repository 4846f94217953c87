"""Encode films as `fourd.corpus.prepare` does, but break down, as decoders do, at films that are named for it."""

from __future__ import annotations

import os
import signal
import time

from fourd.corpus.prepare import encode
from fourd.corpus.prepare.encode import SpanJob, SpanResult


def encode_span(job: SpanJob) -> SpanResult:
    """Break down in the way that the film's name says."""
    if "crash" in job.span.film.path:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "hang" in job.span.film.path:
        time.sleep(1000)
    if "greed" in job.span.film.path:
        bytearray(2**30)
    return encode.encode_span(job)
