"""Runtimes that the network runs on, behind one interface."""
