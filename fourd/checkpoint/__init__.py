"""Checkpoints that are either whole or absent: written aside, hashed, renamed, verified before use."""

from fourd.checkpoint.folder import Found, drop_after, newest
from fourd.checkpoint.saving import Saver
from fourd.checkpoint.state import restore, state_of

__all__ = ["Found", "Saver", "drop_after", "newest", "restore", "state_of"]
