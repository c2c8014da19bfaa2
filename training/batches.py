"""Endless training batches."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Generator

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from engine.config import ModelConfig
from engine.dataset.samples import Sample
from engine.image.load import load_image
from engine.training.augment import AugmentConfig, random_crop
from engine.training.negatives import empty_picture


class Batches(ABC):
    """Random crops of ``samples``; batch number ``i`` depends on the seed and ``i`` alone.

    Pictures are kept decoded in memory. Parts of the data set are drawn equally often, whatever
    their sizes, so that the smaller one is learned too.
    """

    def __init__(
        self,
        samples: list[Sample],
        model: ModelConfig,
        augment: AugmentConfig,
        batch: int,
        seed: int = 0,
    ):
        self.model, self.augment, self.batch, self.seed = model, augment, batch, seed
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
        crops = [self._crop(rng) for _ in range(self.batch)]
        pixels, heads, counts = (torch.from_numpy(np.stack(x)) for x in zip(*crops, strict=True))
        return pixels.contiguous(memory_format=torch.channels_last), heads, counts

    def _crop(self, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        index = self.draw(rng)
        if index is None:
            # Of a generator of its own, so that the crops after it do not depend on how it was made.
            size = self.augment.empty_size(self.model.crop_size)
            empty = empty_picture(size, np.random.default_rng(rng.integers(2**63)))
            return random_crop(empty, np.zeros((0, 2), np.float32), self.model, self.augment, rng)
        return random_crop(self.images[index], self.points[index], self.model, self.augment, rng)
