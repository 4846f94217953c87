"""`fourd data COMMAND`: index films, prepare and check them, measure reading; examine labelled datasets."""

from __future__ import annotations

import importlib

COMMANDS = {
    "index": "list films, wherever they lie, with all that training needs to know of each",
    "prepare": "encode films once for training, into shards that any tool can read",
    "check": "verify what an index or shards hold, and leave out what is broken",
    "doctor": "say whether a copy of a labelled dataset is complete and right, or how to get one",
    "bench": "measure how many clips a second your corpus and machine can feed",
}


def run(arguments: list[str]) -> None:
    """Run the subcommand that is named."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return
    name, *rest = arguments
    if name not in COMMANDS:
        raise ValueError(f"no command {name!r}; expected one of {', '.join(COMMANDS)}")
    importlib.import_module(f"fourd.cli.data.{name}").run(rest)


def usage() -> str:
    """List the subcommands."""
    lines = [f"  {name:<10}{does}" for name, does in COMMANDS.items()]
    return "\n".join(
        ["usage: fourd data COMMAND [OPTIONS]", "", *lines, "", "fourd data COMMAND --help lists a command's options."]
    )
