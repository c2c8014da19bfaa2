"""Processes, threads and time: what the operating system asks of the engine."""
