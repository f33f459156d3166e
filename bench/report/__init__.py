"""Results: runs, tables, files, pictures."""
