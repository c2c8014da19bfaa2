"""A model on disk: its manifest, graphs, weights and compiled kernels."""
