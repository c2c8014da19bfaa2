"""Endless training batches, made ahead of time in background threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from engine.config import ModelConfig
from engine.images import load_image
from engine.training.augment import AugmentConfig, join_crops, random_crop
from engine.training.dataset import Sample
from engine.training.negatives import empty_picture


class CrowdBatches:
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
        workers: int = 2,
    ):
        self.model, self.augment, self.batch, self.seed = model, augment, batch, seed
        self.workers = workers
        images = [load_image(s.image) for s in tqdm(samples, desc="decode", unit="image", leave=False)]
        parts = sorted({s.part for s in samples})
        self.parts = [
            [(image, s.points) for image, s in zip(images, samples, strict=True) if s.part == part] for part in parts
        ]

    def make(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """Batch ``number``: pixels [B, 3, S, S], head maps [B, S/2, S/2], counts [B, S/16, S/16]."""
        rng = np.random.default_rng((self.seed, number))
        crops = []
        for _ in range(self.batch):
            crop = self._crop(rng)
            crops.append(join_crops(crop, self._crop(rng), rng) if rng.random() < self.augment.joined else crop)
        pixels, heads, counts = (torch.from_numpy(np.stack(x)) for x in zip(*crops, strict=True))
        return pixels.contiguous(memory_format=torch.channels_last), heads, counts

    def _crop(self, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        image, points = self._draw(rng)
        return random_crop(image, points, self.model, self.augment, rng)

    def _draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        if rng.random() < self.augment.negatives:
            return empty_picture(self.model.crop_size, rng), np.zeros((0, 2), np.float32)
        part = self.parts[rng.integers(len(self.parts))]
        return part[rng.integers(len(part))]

    def iterate(self, first: int) -> Generator[tuple[Tensor, Tensor, Tensor], None, None]:
        """Batches ``first``, ``first + 1``, ... in order; a few are always being made ahead."""
        with ThreadPoolExecutor(self.workers) as pool:
            ahead: deque[Future] = deque()
            number = first
            try:
                while True:
                    while len(ahead) < 2 * self.workers:
                        ahead.append(pool.submit(self.make, number))
                        number += 1
                    yield ahead.popleft().result()
            finally:
                for future in ahead:
                    future.cancel()
