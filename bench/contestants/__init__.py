"""Contestants: what a user would run instead of ingest and archiver: bare loops, kcat, spt3g's own writer."""
