"""What the commands share at a terminal: how they run and end, progress, tables, common flags."""
