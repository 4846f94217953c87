"""What a film may cost. None of the numbers is from the paper."""

MAX_PIXELS = 2**25
"""The largest picture that is decoded: 8K television just fits."""

CONTAINERS = ("mov", "matroska", "avi", "mpegts", "mpeg", "flv", "asf", "ogg")
"""The kinds of file that are opened, by their content; playlists and other files that name files are not."""
