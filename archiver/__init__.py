"""Consumes the streams' topics and writes finished .g3 files."""
