"""Zones and lines that a user draws on a picture: checked, counted in, drawn, and watched over time."""
