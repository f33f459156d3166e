"""What a user would run instead: bare loops, kcat, spt3g's own writer."""
