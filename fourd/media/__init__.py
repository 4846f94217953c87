"""Films: opened safely, described exactly, decoded by frame number. Numpy alone, so that a worker starts at once.

PyAV decodes. A frame is found by its own time stamp, looked up in a table that one pass over the file's packets
makes, so variable frame rates, cut films and films without a stated length give the same frames as reading the
film from its start. Nothing but the named film is ever opened, and what a film may cost is limited by pixels, packets
and bytes, never by time, so that it is judged alike on every machine.
"""

from fourd.media.frame_table import probe
from fourd.media.frames import decode_pictures
from fourd.media.info import VideoInfo
from fourd.media.limits import CONTAINERS, MAX_PIXELS
from fourd.media.opening import FilmSource, StoredFile, UnreadableVideo

__all__ = [
    "CONTAINERS",
    "MAX_PIXELS",
    "FilmSource",
    "StoredFile",
    "UnreadableVideo",
    "VideoInfo",
    "decode_pictures",
    "probe",
]
