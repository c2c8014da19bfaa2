"""PyTorch's pictures on a GPU as the kernel that ships reads them; needs neither TensorRT nor Triton."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from suite.gpu import Gpu
from tolerances import GPU_KERNELS

from engine.backends.cuda.device_arrays import DeviceImage, device_image
from engine.backends.cuda.image_copies import ImageCopies
from engine.bundle.bundle import load_bundle
from engine.image.load import load_image
from engine.image.tiles import to_input

torch = pytest.importorskip("torch", reason="the pictures are PyTorch's (the train extra)")

pytestmark = pytest.mark.gpu
RGB = np.random.default_rng(0).integers(0, 256, (50, 301, 3), np.uint8)
LAYOUTS = {
    "hwc": lambda x: x,
    "rows padded": lambda x: x[:, 1:290],
    "every second": lambda x: x[::2, ::3],
    "transposed": lambda x: x.transpose(0, 1),
    "planes": lambda x: x.permute(2, 0, 1).contiguous(),
    "grey": lambda x: x[..., 0],
}


@pytest.fixture
def gpu() -> Iterator[Gpu]:
    made = Gpu("float16", load_bundle("default"))
    yield made
    made.close()


def _take(gpu: Gpu, source: Any, color: str = "rgb", caller: Any = None) -> DeviceImage:
    return device_image(source, gpu.stream.context, gpu.stream, color=color, caller=caller)


def _assert_reads(gpu: Gpu, image: DeviceImage, pixels: np.ndarray) -> None:
    expected, tolerance = to_input(pixels, load_bundle("default").model), GPU_KERNELS["preprocess", "torch.float16"]
    out = gpu.memory.new(expected.shape, "float16")
    gpu.kernels.preprocess(image, out)
    np.testing.assert_allclose(gpu.download(out), expected, atol=tolerance.absolute, rtol=tolerance.relative)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("color", ["rgb", "bgr"])
@pytest.mark.parametrize("is_copied", [False, True])
def test_every_layout(gpu, layout, color, is_copied) -> None:
    tensor = LAYOUTS[layout](torch.from_numpy(RGB).cuda())
    expected = load_image(tensor.cpu(), color=color)
    image = _take(gpu, tensor, color)
    if is_copied:
        original, image = image, ImageCopies(gpu.stream).copy(image)
        original.close()
        # By its owner, once it may.
        tensor.zero_()
        torch.cuda.synchronize()
    _assert_reads(gpu, image, expected)
    image.close()


@pytest.mark.parametrize("how", ["dlpack", "interface", "stream of the caller"])
def test_pixels_that_are_on_their_way_are_waited_for(gpu, how) -> None:
    pinned, stream = torch.from_numpy(RGB).pin_memory(), torch.cuda.Stream()
    tensor = torch.zeros(RGB.shape, dtype=torch.uint8, device="cuda")
    # The kernel is loaded, so that its first launch does not wait.
    _assert_reads(gpu, _take(gpu, tensor), np.zeros_like(RGB))
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        # Some hundredths of a second.
        torch.cuda._sleep(50_000_000)
        tensor.copy_(pinned, non_blocking=True)
        named = stream.cuda_stream if how == "interface" else None
        interface = {**tensor.__cuda_array_interface__, "stream": named}
        source = tensor if how == "dlpack" else SimpleNamespace(__cuda_array_interface__=interface)
        image = _take(gpu, source, caller=stream if how == "stream of the caller" else None)
    _assert_reads(gpu, image, RGB)
