"""Encoders of video and images, one file each, all behind one contract."""
