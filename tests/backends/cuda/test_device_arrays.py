"""Arrays of other libraries on the device: both protocols, every layout, and every refusal."""

from __future__ import annotations

import ctypes
import gc

import numpy as np
import pytest
from backends.cuda.fake_driver import FakeDriver
from backends.cuda.foreign_arrays import KINDS, Capsule, Interface
from backends.cuda.simulated_device import PRIMARY, Queue

from engine.backends.cuda import dlpack
from engine.backends.cuda.context import Context
from engine.backends.cuda.device_arrays import DeviceImage, device_image, stream_handle
from engine.backends.cuda.streams import Stream
from engine.config import ImageLimits
from engine.errors import BackendError, ImageError
from engine.image.load import is_device_array, load_image

CALLERS_STREAM = 0x5000


@pytest.fixture
def driver() -> FakeDriver:
    driver = FakeDriver()
    driver.callers_streams[CALLERS_STREAM] = PRIMARY
    driver.streams[CALLERS_STREAM] = Queue(eager=False)
    return driver


@pytest.fixture
def stream(driver):
    with Context() as context:
        yield Stream(context)
    driver.assert_clean()


@pytest.fixture(params=KINDS)
def wrap(request):
    return KINDS[request.param]


def _pixels(image: DeviceImage) -> np.ndarray:
    """What a kernel would read."""
    read = np.empty((image.height, image.width, 3), np.uint8)
    for index in np.ndindex(*read.shape):
        offset = sum(i * stride for i, stride in zip(index, image.strides, strict=True))
        read[index] = ctypes.c_uint8.from_address(image.pointer + offset).value
    return read


RGB = np.random.default_rng(0).integers(0, 256, (7, 10, 3), np.uint8)
LAYOUTS = {
    "hwc": RGB,
    "rows padded": RGB[:, 1:8],
    "every second": RGB[::2, ::3],
    "flipped": RGB[::-1, ::-1, ::-1],
    "transposed": RGB.transpose(1, 0, 2),
    "planes": np.ascontiguousarray(RGB.transpose(2, 0, 1)).transpose(1, 2, 0),
    "gray": RGB[..., 0],
    "gray columns": RGB[..., 0].T,
    "one channel": RGB[..., :1],
    "one pixel": RGB[:1, :1],
    "3 high": RGB[:3],
    "3 x 3": RGB[:3, :3],
    "3 high gray": RGB[:3, :, :1],
    "1 high": RGB[:1],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("color", ["rgb", "bgr"])
def test_the_same_pixels_as_from_the_host(driver, stream, wrap, layout, color) -> None:
    array = LAYOUTS[layout]
    image = device_image(wrap(driver, array), stream.context, stream, color=color)
    np.testing.assert_array_equal(_pixels(image), load_image(array, color=color))
    image.close()


def test_channels_first(driver, stream, wrap) -> None:
    planes = np.ascontiguousarray(RGB.transpose(2, 0, 1))
    np.testing.assert_array_equal(_pixels(device_image(wrap(driver, planes), stream.context, stream)), RGB)
    one = device_image(wrap(driver, planes[:1]), stream.context, stream)
    np.testing.assert_array_equal(_pixels(one), load_image(RGB[..., 0]))


@pytest.mark.parametrize("shape", [(3, 5, 3), (3, 5, 1), (3, 5, 4), (3, 5, 6), (5, 7, 3), (1, 5, 6)])
def test_a_tensor_is_read_as_a_host_tensor_is(driver, stream, monkeypatch, shape) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch's tensors (the train extra)")
    array = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    monkeypatch.setattr(Capsule, "__module__", "torch")
    image = device_image(Capsule(driver, array), stream.context, stream)
    np.testing.assert_array_equal(_pixels(image), load_image(torch.from_numpy(array)))


# Streams.


def test_the_producer_s_stream_is_waited_for(driver, stream) -> None:
    ran = []
    for source, caller in [
        (Interface(driver, RGB, stream=CALLERS_STREAM), None),
        (Interface(driver, RGB, stream=None), CALLERS_STREAM),
        (Capsule(driver, RGB), CALLERS_STREAM),
    ]:
        driver._later(CALLERS_STREAM, lambda: ran.append(1))
        device_image(source, stream.context, stream, caller=caller)
        assert ran == []
        stream.synchronize()
        assert ran == [1]
        ran.clear()


def test_no_stream_is_no_wait(driver, stream) -> None:
    for changes in ({}, {"stream": None}, {"version": 2}):
        device_image(Interface(driver, RGB, **changes), stream.context, stream)
    assert "cuStreamWaitEvent" not in driver.names()
    for default in (1, 2):
        device_image(Interface(driver, RGB, stream=default), stream.context, stream)
    assert driver.names().count("cuStreamWaitEvent") == 2
    with pytest.raises(ImageError, match="names stream 0"):
        device_image(Interface(driver, RGB, stream=0), stream.context, stream)


def test_dlpack_is_told_the_reading_stream_and_when_it_is_done(driver, stream, wrap) -> None:
    source = wrap(driver, RGB)
    image = device_image(source, stream.context, stream)
    if isinstance(source, Capsule):
        assert source.streams == [stream.handle]
        assert source.deleted == 0
    image.close()
    image.close()
    gc.collect()
    assert getattr(source, "deleted", 1) == 1


class _Stream:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)


def test_stream_handles_of_each_library() -> None:
    class Protocol:
        def __cuda_stream__(self):
            return 0, 7

    for given in (7, _Stream(handle=7), _Stream(ptr=7), _Stream(cuda_stream=7), Protocol()):
        assert stream_handle(given) == 7
    # The default stream, by the name that no context changes.
    for given in (0, _Stream(cuda_stream=0)):
        assert stream_handle(given) == 1
    for wrong in (None, "7", True, -1, 7.0, _Stream()):
        with pytest.raises(BackendError, match="stream must be an integer handle or a stream of PyCUDA"):
            stream_handle(wrong)


# Refusals.


@pytest.mark.parametrize(
    ("array", "match"),
    [
        (RGB.astype(np.float32), r"dtype.*only uint8 is read: scale to 0\.\.255"),
        (RGB.astype(np.uint16), "only uint8 is read"),
        (np.zeros((4, 5, 2), np.uint8), r"shape \[4, 5, 2\]; expected \[H, W\]"),
        (np.zeros((4, 5, 4), np.uint8), "drop the fourth channel"),
        (np.zeros((1, 4, 5, 3), np.uint8), "pass the pictures of a batch one by one"),
        (np.zeros(5, np.uint8), "expected"),
        (np.zeros((0, 5, 3), np.uint8), "empty|0"),
    ],
)
def test_wrong_arrays_say_what_to_do(driver, stream, wrap, array, match) -> None:
    source = wrap(driver, array)
    with pytest.raises(ImageError, match=match):
        device_image(source, stream.context, stream)
    # What was taken is given back.
    assert getattr(source, "deleted", 1) == 1


def test_wrong_places_say_what_to_do(driver, stream, wrap) -> None:
    with pytest.raises(BackendError, match=r"lies on cuda:1, the counter runs on cuda:0.*device='cuda:1'"):
        device_image(wrap(driver, RGB, ordinal=1), stream.context, stream)
    with pytest.raises(BackendError, match=r"another CUDA context.*pycuda\.autoprimaryctx"):
        device_image(wrap(driver, RGB, context=0xBAD), stream.context, stream)
    # Pooled memory belongs to no context.
    device_image(wrap(driver, RGB, context=None), stream.context, stream).close()
    with pytest.raises(ImageError, match="limit"):
        device_image(wrap(driver, RGB), stream.context, stream, limits=ImageLimits(max_pixels=69))
    source = wrap(driver, RGB)
    driver.foreign.clear()
    with pytest.raises(ImageError, match="memory that CUDA does not know"):
        device_image(source, stream.context, stream)


def test_pixels_that_lie_too_far_apart_are_refused(driver, stream) -> None:
    """The kernel's offsets within a row are int32, and so are the strides that it takes."""
    far = 1 << 31
    for strides in ((far, 3, 1), (30, -(far // 9) - 1, 1), (30, 3, far // 2)):
        with pytest.raises(ImageError, match=r"its 10 columns reach further than the 2 GiB.*pass a contiguous copy"):
            device_image(Interface(driver, RGB, strides=strides), stream.context, stream)
    for strides in ((1 - far, 3, 1), (30, far // 9, 1), (30, 3, far // 2 - 1)):
        assert device_image(Interface(driver, RGB, strides=strides), stream.context, stream).strides == strides


def test_damaged_interfaces_say_what_is_wrong(driver, stream) -> None:
    with pytest.raises(ImageError, match="version 1; expected 2 or 3"):
        device_image(Interface(driver, RGB, version=1), stream.context, stream)
    with pytest.raises(ImageError, match="is masked"):
        device_image(Interface(driver, RGB, mask=Interface(driver, RGB)), stream.context, stream)
    with pytest.raises(ImageError, match=r"no usable __cuda_array_interface__.*TypeError"):
        device_image(Interface(driver, RGB, data=None), stream.context, stream)
    with pytest.raises(ImageError, match="has shape"):
        device_image(Interface(driver, RGB, strides=(30, 3)), stream.context, stream)
    with pytest.raises(ImageError, match="no usable __cuda_array_interface__"):
        device_image(object(), stream.context, stream)


def test_damaged_capsules_say_what_is_wrong(driver, stream) -> None:
    newer = Capsule(driver, RGB, major=2)
    with pytest.raises(ImageError, match=r"speaks DLPack 2\.0, expected 1\.x"):
        device_image(newer, stream.context, stream)
    assert newer.deleted == 1

    class Refusing(Capsule):
        def __dlpack__(self, **_):
            raise BufferError("requires grad")

    with pytest.raises(ImageError, match=r"\(requires grad\).*detach"):
        device_image(Refusing(driver, RGB), stream.context, stream)
    used = Capsule(driver, RGB)
    capsule = used.__dlpack__()

    class Again(Capsule):
        def __dlpack__(self, **_):
            return capsule

    device_image(Again(driver, RGB), stream.context, stream).close()
    with pytest.raises(ImageError, match="no unused DLPack capsule"):
        device_image(Again(driver, RGB), stream.context, stream)


def test_host_arrays_are_refused_and_told_apart(driver, stream) -> None:
    with pytest.raises(ImageError, match=r"does not lie in CUDA memory \(DLPack device type 1\)"):
        device_image(RGB, stream.context, stream)
    assert is_device_array(Interface(driver, RGB))
    assert is_device_array(Capsule(driver, RGB))
    assert is_device_array(Capsule(driver, RGB, device=dlpack.CUDA_MANAGED))
    for other in (RGB, b"", "x.jpg", Interface, Capsule, Capsule(driver, RGB, device=3), None):
        assert not is_device_array(other)
