"""The kernels that carry the method: their definition in NumPy, and their GPU versions."""
