"""TensorRT or TensorRT-RTX segments with compiled kernels between them: the default on a GPU."""
