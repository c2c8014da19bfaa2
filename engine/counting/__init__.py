"""From the maps of the tiles to heads, a count and its interval."""
