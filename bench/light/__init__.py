"""The parts of first_light.py: what is tried on a machine with a GPU, each in a process of its own."""
