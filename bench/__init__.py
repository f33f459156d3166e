"""How fast ingest and archiver are, beside bare loops that move the same bytes in the same run."""
