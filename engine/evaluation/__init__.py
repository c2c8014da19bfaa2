"""Errors of a counter on annotated pictures."""
