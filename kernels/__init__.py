"""The kernels that carry the method: their definition in NumPy, and their GPU versions.

:mod:`engine.kernels.reference` needs NumPy alone; the modules named after a kernel need Triton and PyTorch.
"""
