"""Measurements: CPU, memory, lag, growth of files."""
