"""What a film may cost, in pixels, packets and bytes: the same on every machine. No number is from the paper."""

MAX_PIXELS = 2**25
"""The largest picture that is decoded: 8K television just fits."""

MAX_PACKETS = 2**22
"""The most packets of a film: 38 hours at 30 frames per second."""

MAX_HIDDEN_PACKETS = 2**16
"""The most packets that an edit list hides: a jump takes FFmpeg the square of their number, about 2 s for so many.
Those of an honest film lie between its cuts and the next key frames."""

MAX_SAMPLES = 2**24
"""The most pieces of picture and sound that an MP4 may claim: FFmpeg makes room for all of them, 400 MB here."""

MAX_PACKET_BYTES = 2**27
"""The largest packet: a picture of the largest size, uncompressed at four bytes per pixel."""

MAX_DECODED_PIXELS = 2**35
"""The most pixels that are decoded on the way to a frame: 9 minutes of 1080p, or 5 hours of 256 x 256."""

MAX_DAYS = 366
"""The longest time from the first frame to the last: a time lapse of a year just fits."""

MAX_BOXES = 2**16
"""The most boxes of an MP4 that are looked at, one behind the other, and the most fragments, about, of a whole file."""

CONTAINERS = ("mov", "matroska", "avi", "mpegts", "mpeg", "flv", "asf", "ogg")
"""The kinds of file that are opened, by their content; playlists and other files that name files are not."""
