"""What a decoder gives becomes a picture, or the film is told to be at fault; it never looks like a failed disk."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from fourd.media import UnreadableVideo, VideoInfo
from fourd.media.frames import upright_rgb

INFO = VideoInfo(64, 48, 0, "rawvideo", Fraction(1, 25), np.arange(3), np.zeros(1, np.int64))


def test_pictures_become_rgb():
    assert upright_rgb("film", av.VideoFrame(64, 48, "yuv420p"), INFO).shape == (48, 64, 3)


@pytest.mark.parametrize("kind", ["gray32le", "gbrap32le", "rgba128le", "y210be"])
def test_pictures_that_cannot_become_rgb_are_the_film_s_fault(kind: str):
    """FFmpeg says "operation not supported", which PyAV raises as an OSError."""
    with pytest.raises(UnreadableVideo, match=rf"its pictures \({kind}\) cannot be turned into RGB"):
        upright_rgb("film", av.VideoFrame(64, 48, kind), INFO)


def test_a_picture_of_another_size_is_refused():
    with pytest.raises(UnreadableVideo, match="picture changes from 64x48 to 32x48 pixels"):
        upright_rgb("film", av.VideoFrame(32, 48, "yuv420p"), INFO)
