"""What commands at a terminal share: how they run and end, progress, tables, common flags."""
