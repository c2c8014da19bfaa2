"""OpenVINO segments with our C++ kernels between them: the default on a CPU."""

from contextlib import suppress

from engine.system.telemetry import no_telemetry

# Before a file of this folder imports it by itself. That it is missing, the backend says.
with suppress(ImportError), no_telemetry():
    import openvino  # noqa: F401
