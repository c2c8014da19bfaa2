"""Counts people in a picture that PyCUDA holds in device memory, without a copy to the host.

Needs a CUDA device, ``pip install 'crowd-engine[tensorrt,pycuda]'`` and a picture: python pycuda_input.py crowd.jpg
"""

import sys

import numpy as np
import pycuda.autoprimaryctx  # noqa: F401 (not autoinit: only the primary context is shared between libraries)
import pycuda.driver as cuda
from pycuda import gpuarray

import engine
from engine.image.load import load_image

with engine.CrowdCounter(device="cuda") as counter:
    stream = cuda.Stream()
    image = gpuarray.to_gpu_async(np.ascontiguousarray(load_image(sys.argv[1])), stream=stream)
    # Whatever PyCUDA does with the picture on this stream is waited for on the device, not by the host.
    result = counter.count(image, stream=stream)
    print(f"{result.count} people, between {result.interval[0]} and {result.interval[1]}")
