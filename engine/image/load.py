"""Any kind of picture to one uint8 RGB array."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from PIL import Image

from engine.config import ImageLimits, check_range
from engine.errors import ConfigError, ImageError
from engine.image.decode import Reading, is_encoded, rgb_from_encoded, rgb_from_picture
from engine.image.pixels import Warn, rgb_from_array
from engine.image.tiles import HostPicture
from engine.system.addresses import hide_password

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/{1,2}")
_READ_CHUNK = 1 << 24
# DLPack's numbers of a GPU's own memory, and of memory that it shares with the host.
_CUDA_MEMORY = (2, 13)

_log = logging.getLogger("engine")


def load_image(
    source: Any,
    *,
    color: str = "rgb",
    limits: ImageLimits | None = None,
    page: int | None = None,
    exif_orientation: bool = True,
    warn: Warn = _log.warning,
) -> np.ndarray:
    """Read one picture, whatever holds it, as upright 8-bit RGB.

    The same picture gives the same array through every kind of source. Grey is repeated in three channels;
    integers of more than 8 bits and floats are scaled so that white is 1 (floats alone), 255, 1023, 4095, 16383 or
    65535, the smallest of them that no pixel exceeds; bool arrays are black and white; transparent pixels are
    composited on white, so that what a viewer does not show (a masked-out region, say) is not counted, but where that
    would hide the whole picture it is taken as opaque, with a warning.

    Args:
        source: one of

            - a path (``str`` or ``os.PathLike``) to a JPEG, PNG, WebP, BMP, GIF, TIFF, PNM, AVIF or (with the extra
              "heic") HEIC file, or that file as bytes, bytearray, memoryview, uint8 array of one axis (of [N, 1] too,
              as OpenCV's ``imencode`` gives it) or binary file object (rewound first where it can be);
            - a Pillow image;
            - an array, or anything with ``__array__`` or ``__array_interface__``: [H, W], [H, W, 1], [H, W, 3] or
              [H, W, 4]; bool, uint8, or other integers or floats from 0 to at most 65535;
            - a torch tensor, on any device: shaped like an array, or channels first. Where the first axis
              is 3 the channels come first, so that [3, H, 3] is a picture 3 pixels wide.
        color: order of the channels of an array or tensor, "rgb" or "bgr" (with alpha: RGBA or BGRA).
            Files and Pillow images know their own order, and ignore it.
        limits: None reads ``ImageLimits()``.
        page: of a TIFF file, or frame of an animation, from 0. None reads the first (of HEIC the main one), with a
            warning if there are more; of a Pillow image the current one, with that warning if it is the first.
        exif_orientation: turn the picture as its EXIF data say. False takes the pixels as they are stored, which is
            right where a program has turned them and left the entry as it was.
        warn: gets a sentence for whatever was assumed or left out.

    Returns:
        uint8 [H, W, 3], C-contiguous, EXIF orientation applied. Never shares memory with ``source``.

    Raises:
        ImageError: missing, empty, cut, damaged, too large, of another format, shape or dtype, negative, not finite, or
            without such a page; the message names the source. URLs are not fetched.
        ConfigError: ``color`` is neither "rgb" nor "bgr", or ``page`` is no number from 0.

    >>> load_image(np.array([[0, 255]], np.uint8)).tolist()
    [[[0, 0, 0], [255, 255, 255]]]
    >>> load_image(np.array([[[1, 2, 3]]], np.uint8), color="bgr").tolist()
    [[[3, 2, 1]]]
    """
    if color not in ("rgb", "bgr"):
        raise ConfigError(f'color must be "rgb" or "bgr", got {color!r}')
    page = check_range("page", page, 0, 2**31 - 1, optional=True)
    limits = ImageLimits() if limits is None else limits
    how = Reading(limits, page, exif_orientation, warn)
    if isinstance(source, (str, os.PathLike)):
        return rgb_from_encoded(_read_path(source, limits), str(source), how)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return rgb_from_encoded(_read_buffer(source, limits), "<bytes>", how)
    if isinstance(source, Image.Image):
        return rgb_from_picture(source, getattr(source, "filename", "") or "<PIL image>", how)
    if isinstance(source, np.ndarray):
        return _from_array(source, "<array>", color, how)
    if type(source).__module__.partition(".")[0] == "torch" and hasattr(source, "detach"):
        return _from_array(_tensor_array(source), "<tensor>", color, how)
    if hasattr(source, "read"):
        name = str(getattr(source, "name", "<file object>"))
        return rgb_from_encoded(_read_file(source, name, limits), name, how)
    return _from_array(_foreign_array(source), f"<{type(source).__name__}>", color, how)


def load_host_picture(
    img: Any, color: str, cuda_stream: Any, runs_on: str, read: Callable[..., np.ndarray] = load_image
) -> HostPicture:
    """Read one picture for a backend that computes on host memory.

    Args:
        img, color: as of :func:`load_image`.
        cuda_stream: that the caller gave for an array on a GPU; there is none here.
        runs_on: what errors call the backend.
        read: :func:`load_image`, with options of its own.

    Raises:
        ImageError: as of :func:`load_image`, or the picture lies on a GPU.
        ConfigError: ``color`` is not valid, or there is a ``cuda_stream``.
    """
    if cuda_stream is not None:
        raise ConfigError(f"stream goes with a picture on the GPU of backend 'tensorrt', the counter runs on {runs_on}")
    # PyTorch copies its own arrays to the host; the other libraries ask their users to.
    if is_device_array(img) and not type(img).__module__.startswith("torch"):
        raise ImageError(
            f"<{type(img).__name__}> lies in CUDA memory, the counter runs on {runs_on}; "
            "make a CrowdCounter(device='cuda', backend='tensorrt'), or copy it to the host"
        )
    return HostPicture(read(img, color=color))


def is_device_array(source: Any) -> bool:
    """Whether an object holds an array in CUDA memory, by either protocol; nothing is converted or copied."""
    if isinstance(source, type):
        return False
    if hasattr(source, "__dlpack__") and hasattr(source, "__dlpack_device__"):
        try:
            return int(source.__dlpack_device__()[0]) in _CUDA_MEMORY
        except Exception:
            # Foreign code, which raises what it likes of arrays that it cannot export.
            return False
    try:
        return hasattr(source, "__cuda_array_interface__")
    except Exception:
        return False


def is_many_pictures(source: Any) -> bool:
    """Whether ``source`` holds pictures and is not one itself: an iterable, or an array of four axes, or of paths.

    >>> is_many_pictures(["a.jpg"]), is_many_pictures("a.jpg"), is_many_pictures(np.zeros((8, 8, 3), np.uint8))
    (True, False, False)
    """
    if any(hasattr(source, name) for name in ("__array__", "__array_interface__", "__cuda_array_interface__")):
        return getattr(source, "ndim", 0) in (1, 4) and not _is_file_array(source)
    is_file = isinstance(source, (str, os.PathLike, bytes, bytearray, memoryview)) or hasattr(source, "read")
    return isinstance(source, Iterable) and not is_file


def _read_path(path: str | os.PathLike[str], limits: ImageLimits) -> bytes:
    # A path of an address has lost a slash; but a folder may be called so.
    if _URL.match(str(path)) and not os.path.exists(path):
        address = hide_password(str(path))
        raise ImageError(f"{address} is a URL, which is not fetched; download it and pass the file or its bytes")
    name = os.fspath(path)
    if os.path.isdir(name):
        raise ImageError(f"{name!r} is a folder; expected a picture file: pass its files one by one")
    try:
        with open(name, "rb") as file:
            return _read_file(file, str(name), limits)
    except FileNotFoundError as error:
        raise ImageError(f"{name!r} does not exist; check the path, and the folder that it starts from") from error
    except (OSError, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{name!r} cannot be opened ({error}); check the path and its permissions") from error


def _read_buffer(buffer: bytes | bytearray | memoryview, limits: ImageLimits) -> bytes:
    size = buffer.nbytes if isinstance(buffer, memoryview) else len(buffer)
    _check_bytes(size, "<bytes>", limits)
    return bytes(buffer)


def _read_file(file: Any, name: str, limits: ImageLimits) -> bytes:
    """All bytes of a file object, from its start where it can seek, in chunks so that the limit stops endless ones."""
    chunks: list[bytes] = []
    size = 0
    try:
        if getattr(file, "seekable", lambda: False)():
            file.seek(0)
        while chunk := file.read(min(_READ_CHUNK, limits.max_bytes + 1 - size)):
            if not isinstance(chunk, (bytes, bytearray, memoryview)):
                raise ImageError(f'{name} reads {type(chunk).__name__}, expected bytes: open it in binary mode ("rb")')
            chunks.append(bytes(chunk))
            size += len(chunk)
            _check_bytes(size, name, limits)
    except (ImageError, MemoryError):
        raise
    except Exception as error:
        raise ImageError(f"{name} cannot be read ({error}); pass an open, binary, readable file") from error
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _check_bytes(size: int, name: str, limits: ImageLimits) -> None:
    if size > limits.max_bytes:
        raise ImageError(f"{name} is larger than the limit of {limits.max_bytes} bytes; raise ImageLimits.max_bytes")


def _tensor_array(tensor: Any) -> np.ndarray:
    """A torch tensor as a channels-last array, without importing torch."""
    tensor = tensor.detach()
    if str(tensor.dtype) == "torch.bfloat16":
        # NumPy has no bfloat16.
        tensor = tensor.float()
    try:
        array: np.ndarray = tensor.cpu().numpy()
    except (TypeError, RuntimeError) as error:
        raise ImageError(f"<tensor> has no NumPy form ({error}); pass a dense uint8 or float tensor") from error
    if array.ndim == 3 and (array.shape[0] == 3 or (array.shape[2] not in (1, 3, 4) and array.shape[0] in (1, 4))):
        return array.transpose(1, 2, 0)
    return array


def _foreign_array(source: Any) -> np.ndarray:
    if not (hasattr(source, "__array__") or hasattr(source, "__array_interface__")) or isinstance(source, type):
        raise ImageError(
            f"got {type(source).__name__}; expected a path, bytes, a binary file, a Pillow image, an array or a tensor"
        )
    try:
        return np.asarray(source)
    except Exception as error:
        # Foreign code: CuPy raises TypeError, others their own classes.
        raise ImageError(f"{type(source).__name__} has no NumPy form ({error}); pass a NumPy array") from error


def _is_file_array(array: Any) -> bool:
    """Whether an array, or a tensor, is one row of bytes."""
    return getattr(array, "ndim", 0) == 1 and str(getattr(array, "dtype", "")).endswith("uint8")


def _holds_file(array: np.ndarray) -> bool:
    """Whether an array [N], [N, 1] or [1, N] holds the bytes of a picture file."""
    row = array.reshape(-1)
    return _is_file_array(row) and array.size in array.shape and is_encoded(row[:16].tobytes())


def _from_array(array: np.ndarray, name: str, color: str, how: Reading) -> np.ndarray:
    # Subclasses such as np.matrix index differently.
    array = np.asarray(array)
    if _holds_file(array):
        return rgb_from_encoded(_read_buffer(array.tobytes(), how.limits), name, how)
    if how.page:
        raise ImageError(f"{name} has no page {how.page}: it has one, number 0")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        batch = "; pass the pictures of a batch one by one" if array.ndim == 4 else ""
        raise ImageError(
            f"{name} has shape {list(array.shape)}; expected [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] "
            f"(a tensor may be [3, H, W]){batch}"
        )
    how.limits.check(array.shape[1], array.shape[0], name)
    if color == "bgr" and array.ndim == 3 and array.shape[2] >= 3:
        array = array[..., [2, 1, 0, 3][: array.shape[2]]]
    return rgb_from_array(array, name, how.warn)
