"""Tests; the folders mirror the package, and `contracts/` holds what every plug-in must keep."""
