"""Frozen settings: of the network, of a counter, and of the environment."""

from __future__ import annotations

import math
import operator
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, SupportsIndex

from engine.errors import ConfigError, ImageError

# Encoders that can start from pre-trained weights (:mod:`engine.model.trunk`).
TRUNKS = ("efficientnet_lite0",)
# Blocks of a whole trunk, and of the shortest: its first at stride 16 is the last.
TRUNK_BLOCKS, _FEWEST_BLOCKS = 16, 6
# Principal components of a domain's pictures that a signature has.
COMPONENTS = 32


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the network; stored in every checkpoint and bundle.

    Attributes:
        trunk: "none" for plain stages, or one of :data:`TRUNKS`, which can start from weights that were
            trained on ImageNet.
        trunk_blocks: how many of its blocks the encoder has. The first 11 of EfficientNet-Lite0's reach stride 16.
        widths: channels of the plain stages at strides 2, 4, 8, 16 and 32.
        depths: residual blocks at those strides.
        neck: channels at stride 16 behind a trunk.
        neck_blocks: residual blocks at stride 16, where the trunk's strides 16 and 32 have met.
        count_bins: heads in a 16x16 block that is not empty, as classes; none for one rate without classes.
        domains: parts of the training data, such as pictures of crowds and of streets, that the signature has
            statistics of.
        own_rate: whether pictures like those that the model was fine-tuned on have a rate of their own.
        stem_kernel: side of the first convolution's filters, odd.
        features: channels of the condition map at stride 8.
        attention_dim: channels of queries and keys.
        encoder_attention_passes: criss-cross passes at stride 16, sharing weights (CCNet's R).
        decoder_width: channels of the decoder.
        decoder_blocks: timed blocks of the decoder, half before and half after its attention.
        decoder_attention_passes: criss-cross passes at stride 8.
        time_frequencies: learned frequencies of the time embedding.
        map_stride: pixels per cell of the head map.
        map_scale: b; the head map in [0, 1] is diffused in [-b, b].
        pixel_mean, pixel_std: normalisation of pixels in [0, 1].
        crop_size: training crop, in pixels; sets the reference length of the attention logits.
    """

    trunk: str = "none"
    trunk_blocks: int = TRUNK_BLOCKS
    widths: tuple[int, int, int, int, int] = (32, 64, 128, 192, 256)
    depths: tuple[int, int, int, int, int] = (0, 1, 2, 2, 1)
    stem_kernel: int = 3
    neck: int = 128
    neck_blocks: int = 0
    count_bins: tuple[float, ...] = ()
    domains: int = 1
    own_rate: bool = False
    features: int = 96
    attention_dim: int = 32
    encoder_attention_passes: int = 2
    decoder_width: int = 64
    decoder_blocks: int = 2
    decoder_attention_passes: int = 1
    time_frequencies: int = 8
    map_stride: int = 2
    map_scale: float = 0.25
    pixel_mean: float = 0.45
    pixel_std: float = 0.27
    crop_size: int = 256

    def __post_init__(self) -> None:
        if self.trunk not in ("none", *TRUNKS):
            raise ConfigError(f"trunk must be one of none, {', '.join(TRUNKS)}, got {self.trunk!r}")
        if not _FEWEST_BLOCKS <= self.trunk_blocks <= TRUNK_BLOCKS:
            raise ConfigError(f"trunk_blocks must be from {_FEWEST_BLOCKS} to {TRUNK_BLOCKS}, got {self.trunk_blocks}")
        if list(self.count_bins) != sorted(set(self.count_bins)) or min(self.count_bins, default=1) < 1:
            raise ConfigError(f"count_bins must rise and be at least 1, got {self.count_bins}")
        sizes = "neck domains features attention_dim decoder_width time_frequencies crop_size stem_kernel map_stride"
        blocks = "neck_blocks encoder_attention_passes decoder_blocks decoder_attention_passes"
        for names, least in ((f"widths {sizes}", 1), (f"depths {blocks}", 0)):
            for name in names.split():
                value = getattr(self, name)
                if (min(value) if isinstance(value, tuple) else value) < least:
                    raise ConfigError(f"{name} must be at least {least}, got {value}")
        if self.stem_kernel % 2 == 0:
            raise ConfigError(f"stem_kernel {self.stem_kernel} is not odd")
        if FEATURE_STRIDE % self.map_stride:
            raise ConfigError(f"map_stride {self.map_stride} does not divide {FEATURE_STRIDE}")
        if not (0 < self.pixel_std < math.inf and 0 < self.map_scale < math.inf and math.isfinite(self.pixel_mean)):
            raise ConfigError("pixel_std and map_scale must be above 0, and these and pixel_mean finite")

    @property
    def signature(self) -> int:
        """Numbers of the signature: :data:`COMPONENTS` for each domain."""
        return COMPONENTS * self.domains

    @property
    def latent_channels(self) -> int:
        """Channels of the space-to-depth latent at stride 8."""
        return (FEATURE_STRIDE // self.map_stride) ** 2

    def reference_length(self, stride: int) -> int:
        """H + W - 1 of a training crop at ``stride``."""
        return 2 * self.crop_size // stride - 1


@dataclass(frozen=True)
class CountingRule:
    """How peaks become a count and its interval, calibrated for one number of denoising steps.

    Attributes:
        low, high: the threshold is chosen within them so that the number of peaks agrees with the
            expected count; equal values fix it. 0 < low <= high <= 1.
        least, most: quantiles of (true + 5) / (counted + 5) on held-out pictures, where the error's scale is 1;
            0 < least <= 1 <= most. 1 and 1 claim nothing.
        gate: nobody is counted unless one peak is at least so high.
        offset: mean logarithm of (true + 5) / (rate + 5), of the encoder's rate; 0 takes the rate as it is.
        scale, scale_by_count, scale_by_distance: logarithm of that scale = scale + scale_by_count * log(counted + 5) +
            scale_by_distance * log(distance); three zeros make it 1.
        fewest: people in most held-out pictures, at least. For counts below it the scale grows as that of a Poisson
            number does.
        beyond_peaks: whether people are counted whom the encoder expects and the map has no peaks for.
        most_haze, most_weak, most_distance: the largest :func:`engine.counting.heads.haze`,
            :func:`engine.counting.heads.weak_ratio` and :func:`engine.counting.heads.distance` of nearly all held-out
            pictures; beyond them a picture is unlike those. 1, 1e9 and 1e9 hold for every picture.
    """

    low: float
    high: float
    least: float = 1.0
    most: float = 1.0
    gate: float = 0.0
    offset: float = 0.0
    scale: float = 0.0
    scale_by_count: float = 0.0
    scale_by_distance: float = 0.0
    fewest: float = 0.0
    beyond_peaks: bool = False
    most_haze: float = 1.0
    most_weak: float = 1e9
    most_distance: float = 1e9


# People added to both sides of a ratio of true to counted.
RATIO_OFFSET = 5


def scale_count(count: int, ratio: float) -> float:
    """The true count if ``(true + 5) / (count + 5)`` is ``ratio``, not below 0.

    The 5 keeps the ratio tame for pictures of a few people.

    >>> scale_count(95, 1.2), scale_count(0, 0.5)
    (115.0, 0.0)
    """
    return max((count + RATIO_OFFSET) * ratio - RATIO_OFFSET, 0.0)


# Stride of the condition map and of the latent; inputs are padded to multiples of PADDING.
FEATURE_STRIDE = 8
PADDING = 32
# Suffixes of the picture files that are read, in lower case.
PICTURE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".pbm", ".pgm", ".pnm", ".ppm", ".avif",
    ".heic", ".heif", ".hif",
})  # fmt: skip

PERFORMANCES = ("balanced", "latency", "throughput")
BACKENDS = ("openvino", "tensorrt", "torch")
COMPUTE_TYPES = ("float32", "bfloat16", "float16", "int8")


@dataclass(frozen=True)
class CounterConfig:
    """Arguments of :class:`engine.CrowdCounter`, checked.

    Raises:
        ConfigError: an argument is outside its range.
    """

    model: str | Path = "default"
    device: str = "auto"
    backend: str = "auto"
    compute_type: str = "default"
    steps: int | None = None
    samples: int = 1
    seed: int = 0
    cpu_threads: int = 0
    cache_dir: str | Path | None = None
    performance: str = "balanced"

    def __post_init__(self) -> None:
        _check_path("model", self.model)
        _check_path("cache_dir", "" if self.cache_dir is None else self.cache_dir)
        if not isinstance(self.device, str):
            raise ConfigError(f"device must be text, got {self.device!r}")
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise ConfigError(f"device must be 'auto', 'cpu', 'cuda' or 'cuda:N', got {self.device!r}")
        check_choice("backend", self.backend, ("auto", *BACKENDS))
        check_choice("compute_type", self.compute_type, ("default", *COMPUTE_TYPES))
        ranges = {"steps": (1, 1000), "samples": (1, 1000), "seed": (0, 2**63 - 1), "cpu_threads": (0, 1024)}
        for name, (low, high) in ranges.items():
            number = check_range(name, getattr(self, name), low, high, optional=name == "steps")
            object.__setattr__(self, name, number)
        check_choice("performance", self.performance, PERFORMANCES)


def check_range(name: str, value: SupportsIndex | None, low: int, high: int, optional: bool = False) -> Any:
    """The value as an int, of any type of integers such as NumPy's.

    Raises:
        ConfigError: it is no integer in low..high (or None, if ``optional``).
    """
    if value is None and optional:
        return None
    try:
        number = low - 1 if value is None or isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = low - 1
    if not low <= number <= high:
        raise ConfigError(f"{name} must be an integer from {low} to {high}, got {value!r}")
    return number


def _check_path(name: str, value: Any) -> None:
    try:
        valid = not isinstance(value, bytes) and b"\0" not in os.fsencode(os.fspath(value))
    except (TypeError, UnicodeEncodeError):
        valid = False
    if not valid:
        raise ConfigError(f"{name} must be text or a path, of characters that a path can have, got {value!r}")


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a value that is none of ``choices``."""
    if value not in choices:
        raise ConfigError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


# Environment variable that sets the default of ImageLimits.max_pixels.
MAX_PIXELS_VARIABLE = "CROWD_MAX_PIXELS"
_DEFAULT_MAX_PIXELS = 160_000_000


def _default_max_pixels() -> int:
    text = os.environ.get(MAX_PIXELS_VARIABLE, "").strip()
    if not text:
        return _DEFAULT_MAX_PIXELS
    # isdecimal() also takes other scripts' digits, and int() reads them.
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"{MAX_PIXELS_VARIABLE} must be a positive whole number of pixels, got {text!r}")
    return int(text)


@dataclass(frozen=True)
class ImageLimits:
    """Largest picture that is read; larger ones are refused before they are decoded.

    Attributes:
        max_pixels: width times height; by default CROWD_MAX_PIXELS of the environment, or 160 megapixels.
        max_bytes: of an encoded file.

    Raises:
        ConfigError: a limit is not a positive integer.
    """

    max_pixels: int = field(default_factory=_default_max_pixels)
    max_bytes: int = 1 << 30

    def __post_init__(self) -> None:
        for name in ("max_pixels", "max_bytes"):
            object.__setattr__(self, name, check_range(name, getattr(self, name), 1, 2**63 - 1))

    def check(self, width: int, height: int, name: str) -> None:
        """Refuse an empty picture, or one of more than ``max_pixels``; ``name`` is what the error calls it.

        Raises:
            ImageError: it is one of these.
        """
        if width < 1 or height < 1:
            raise ImageError(f"{name} is {width}x{height} pixels; a picture needs at least 1x1")
        if width * height > self.max_pixels:
            raise ImageError(
                f"{name} is {width}x{height} = {width * height} pixels, more than the limit of {self.max_pixels}; "
                "shrink it, or raise ImageLimits.max_pixels (CROWD_MAX_PIXELS)"
            )
