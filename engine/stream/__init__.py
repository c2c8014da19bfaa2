"""Counting in videos, folders and cameras: the sources, the threads that read them, and the warm start."""
