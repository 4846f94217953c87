"""Features out of any video, however long: `fourd.extract(paths, out, backbone)`."""

from fourd.extraction.config import ExtractConfig
from fourd.extraction.index import Entry, read_index
from fourd.extraction.run import extract

__all__ = ["Entry", "ExtractConfig", "extract", "read_index"]
