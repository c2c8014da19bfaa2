"""Endless training batches."""

from __future__ import annotations

import dataclasses
import itertools
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from engine.config import ModelConfig
from engine.dataset.samples import Sample
from engine.image.load import load_image
from engine.training.augment import AugmentConfig, random_crop
from engine.training.negatives import empty_picture
from engine.training.text import text_layer


class Sizes:
    """Side of the crops and crops in a batch, by the batch's number.

    Attributes:
        late_from: number of the first batch with ``late_crop``; it may be set when it is known.
    """

    def __init__(self, crop: int, batch: int, late_crop: int = 0, late_from: float = 0):
        self._first = crop, batch
        self._late = late_crop, max(batch * crop**2 // late_crop**2, 1) if late_crop else 0
        self.late_from = late_from

    def at(self, number: int) -> tuple[int, int]:
        """Those of batch ``number``: later batches have larger crops, and as many pixels."""
        return self._late if self._late[0] and number >= self.late_from else self._first

    @property
    def largest(self) -> int:
        """Side of the largest crop."""
        return max(self._first[0], self._late[0])


class Batches(ABC):
    """Random crops of ``samples``; batch number ``i`` depends on the seed and ``i`` alone.

    Pictures are kept decoded in memory. Parts of the data set are drawn equally often, whatever
    their sizes, so that the smaller one is learned too.

    Args:
        sizes: of the crops; None for ``batch`` of the model's own size, always.
        scenes: uint8 [H, W, 3] each, pictures without people.
    """

    def __init__(
        self,
        samples: list[Sample],
        model: ModelConfig,
        augment: AugmentConfig,
        batch: int,
        seed: int = 0,
        sizes: Sizes | None = None,
        scenes: Sequence[np.ndarray] = (),
    ):
        self.model, self.augment, self.batch, self.seed = model, augment, batch, seed
        self.sizes = sizes or Sizes(model.crop_size, batch)
        self.scenes = scenes
        self.images = [load_image(s.image) for s in tqdm(samples, desc="decode", unit="image", leave=False)]
        self.points = [s.points for s in samples]
        parts = sorted({s.part for s in samples})
        self._parts = [[i for i, s in enumerate(samples) if s.part == part] for part in parts]

    @abstractmethod
    def make(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """Batch ``number``: pixels [B, 3, S, S], head maps [B, S/2, S/2], counts [B, S/16, S/16]."""

    def draw(self, rng: np.random.Generator) -> int | None:
        """Index of a random picture, or None for one without people."""
        if rng.random() < self.augment.negatives:
            return None
        part = self._parts[rng.integers(len(self._parts))]
        return part[rng.integers(len(part))]

    def draw_text(self, size: int, is_empty: bool, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray] | None:
        """What :func:`text_layer` gives for some of the crops, with the network's input values as colours."""
        chance = min(5 * self.augment.text, 0.5) if is_empty else self.augment.text
        if not chance or rng.random() >= chance:
            return None
        colour, opacity = text_layer(size, np.random.default_rng(rng.integers(2**63)))
        return (colour - np.float32(self.model.pixel_mean)) / np.float32(self.model.pixel_std), opacity

    def iterate(self, first: int) -> Generator[tuple[Tensor, Tensor, Tensor], None, None]:
        """Batches ``first``, ``first + 1``, ... in order, each made when it is asked for."""
        yield from map(self.make, itertools.count(first))


class CrowdBatches(Batches):
    """Batches that Pillow makes on the CPU, some 400 crops a second; endless pictures without people.

    None are made ahead: threads beside a training step on the same cores hold it up for longer than they save
    (two cores: 0.60 s a step, against 0.49 s with making the batch).
    """

    def make(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """See :meth:`Batches.make`."""
        rng = np.random.default_rng((self.seed, number))
        size, batch = self.sizes.at(number)
        crops = [self._crop(size, rng) for _ in range(batch)]
        pixels, heads, counts = (torch.from_numpy(np.stack(x)) for x in zip(*crops, strict=True))
        return pixels.contiguous(memory_format=torch.channels_last), heads, counts

    def _crop(self, size: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        model = dataclasses.replace(self.model, crop_size=size)
        index = self.draw(rng)
        image, points = (self._empty(size, rng), _NOBODY) if index is None else (self.images[index], self.points[index])
        pixels, heads, counts = random_crop(image, points, model, self.augment, rng)
        if text := self.draw_text(size, index is None, rng):
            colour, opacity = text
            pixels = pixels + opacity * (colour - pixels)
        return pixels, heads, counts

    def _empty(self, size: int, rng: np.random.Generator) -> np.ndarray:
        if self.scenes and rng.random() < 0.5:
            return self.scenes[int(rng.integers(len(self.scenes)))]
        # From a generator of its own, so that the crops after it do not depend on how it was made.
        return empty_picture(self.augment.empty_size(size), np.random.default_rng(rng.integers(2**63)), discs=True)


_NOBODY = np.zeros((0, 2), np.float32)
