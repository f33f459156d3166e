"""Benchmarks: ingest and archiver, compared in the same run with bare loops that move the same bytes."""
