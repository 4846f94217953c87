"""The command line: `fourd COMMAND`."""

from __future__ import annotations

import importlib
import logging
import os
import sys

from rich.console import Console
from rich.logging import RichHandler

import fourd
from fourd.media import UnreadableVideo

COMMANDS = {
    "demo": "pretrain, probe five tasks and show the result on a page, in minutes",
    "pretrain": "pretrain a video transformer, on your own videos or on the embedded world",
    "probe": "learn readouts on a backbone, frozen or finetuned, and score them",
    "evaluate": "measure any encoders on a suite of tasks, frozen and finetuned, and compare them",
    "study": "answer a question by experiment: pretrain what differs, measure it, show what the numbers support",
    "extract": "turn videos of any length, and images, into features",
    "data": "index, prepare and check the films to train on, and measure how fast they are read",
    "plan": "say how a model is trained on your GPUs: memory, speed, cost, before anything is bought",
    "bench": "measure training beside VideoMAE, and every backbone beside its rival's own code",
    "report": "make the page of a study again, from its rows and pictures",
}

_EXPECTED = (UnreadableVideo, ValueError, OSError, FloatingPointError, ImportError, MemoryError)
_TOGETHER = ("pretrain", "probe")
"""Commands that several processes of one run may share, as `torchrun` starts them."""


def main() -> None:
    """Run the command that is named on the command line."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return
    if arguments[0] == "--version":
        print(f"fourd {fourd.__version__}")
        return
    name, *rest = arguments
    if name not in COMMANDS:
        raise SystemExit(f"fourd: no command {name!r}\n\n{usage()}")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and name not in _TOGETHER:
        raise SystemExit(
            f"fourd {name}: started as one of {os.environ['WORLD_SIZE']} ranks, which only {' and '.join(_TOGETHER)} "
            "share. Give the command without torchrun"
        )
    rank = int(os.environ.get("RANK", "0"))
    console = Console(stderr=True)
    level = "ERROR" if rank else "INFO"  # what all ranks do is told by the first
    logging.basicConfig(level=level, format="%(message)s", handlers=[RichHandler(console=console, show_path=False)])
    try:
        importlib.import_module(f"fourd.cli.{name}").run(rest)
    except _EXPECTED as error:
        # what a user can mend is told in a sentence; FOURD_DEBUG=1 shows where it arose
        if os.environ.get("FOURD_DEBUG"):
            raise
        if isinstance(error, BrokenPipeError) and _reader_left():
            return
        who = f" (rank {rank})" if rank else ""
        raise SystemExit(f"fourd {name}{who}: {error}") from error
    except KeyboardInterrupt:
        raise SystemExit(f"\nfourd {name}: stopped; the same command goes on from the last checkpoint") from None


def _reader_left() -> bool:
    """Tell whether nobody reads what is printed any more, as after `| head`, and then print to nobody."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def usage() -> str:
    """List the commands."""
    lines = [f"  {name:<10}{does}" for name, does in COMMANDS.items()]
    return "\n".join(
        [
            "usage: fourd COMMAND [OPTIONS]",
            "",
            *lines,
            "",
            "fourd COMMAND --help lists a command's options; fourd --version says which version this is.",
        ]
    )
