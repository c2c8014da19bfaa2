"""The network in eager PyTorch: the reference, and the way to run and time it on a GPU without TensorRT."""
