"""Pages of what was recorded: nights, files, acquisitions, sessions and losses, from the catalog."""
