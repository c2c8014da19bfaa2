"""The backends by name, and which of them a configuration leads to."""

from __future__ import annotations

import importlib
import logging

from engine.backends.base import Backend
from engine.bundle.bundle import Bundle
from engine.config import CounterConfig
from engine.errors import BackendError, EngineError
from engine.system.forks import COUNTING

_log = logging.getLogger("engine")

# Name -> (module, class). Modules are imported on first use: each needs its own runtime.
_REGISTRY = {
    "openvino": ("engine.backends.openvino.backend", "OpenVINOBackend"),
    "tensorrt": ("engine.backends.tensorrt.backend", "TensorRTBackend"),
    "torch": ("engine.backends.torch.backend", "TorchBackend"),
}
# What "auto" may run on a GPU; the others compute on the CPU alone.
_GPU_TYPES = ("default", "float16", "bfloat16")


def create_backend(bundle: Bundle, config: CounterConfig) -> Backend:
    """The backend that ``config`` asks for; "auto" picks one for the device and logs it.

    Raises:
        BackendError: it is not there, or cannot run on that device.

    Where everything was left to "auto" and TensorRT does not start, it is the CPU's, and the log says why.
    """
    COUNTING.check()
    name = resolve_backend(bundle, config)
    if "auto" in (config.backend, config.device):
        _log.info("device %r and backend %r resolved to backend %r", config.device, config.backend, name)
    try:
        return _make(name, bundle, config)
    except BackendError as error:
        # What was looked up beforehand says too little: TensorRT may be newer than the driver, or refuse its engines.
        if name != "tensorrt" or (config.backend, config.device) != ("auto", "auto"):
            raise
        _log.warning("no GPU is used: %s", error)
        return _make("openvino", bundle, config)


def _make(name: str, bundle: Bundle, config: CounterConfig) -> Backend:
    module, attribute = _REGISTRY[name]
    backend: Backend = getattr(importlib.import_module(module), attribute)(bundle, config)
    return backend


def resolve_backend(bundle: Bundle, config: CounterConfig) -> str:
    """Name of the backend that ``config`` leads to, without loading it."""
    on_gpu = config.device.startswith("cuda")
    if config.backend == "openvino" and on_gpu:
        raise BackendError(f"backend 'openvino' runs on the CPU, got device={config.device!r}; use device='cpu'")
    if config.backend == "tensorrt" and config.device == "cpu":
        raise BackendError("backend 'tensorrt' runs on a GPU, got device='cpu'; use device='cuda' or 'auto'")
    if config.backend != "auto":
        return config.backend
    if config.device == "auto":
        problem = why_no_gpu(bundle, config)
        if problem:
            _log.info("no GPU is used: %s", problem)
        return "openvino" if problem else "tensorrt"
    return "tensorrt" if on_gpu else "openvino"


def why_no_gpu(bundle: Bundle, config: CounterConfig) -> str | None:
    """Why backend "tensorrt" cannot run this bundle on the first GPU; None if it can, as far as is known beforehand."""
    if config.compute_type not in _GPU_TYPES:
        return f"compute_type {config.compute_type!r} is for the CPU"
    from engine.backends.tensorrt.requirements import check_requirements, resolve_type

    try:
        check_requirements(bundle, 0, resolve_type(config.compute_type))
    except EngineError as error:
        return str(error)
    return None
