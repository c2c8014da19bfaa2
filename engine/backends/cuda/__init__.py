"""The CUDA driver: memory, streams, graphs and compiled kernels, on cuda-bindings alone."""
