"""Training batches made on a GPU, from pictures that stay there."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from engine.config import ModelConfig
from engine.dataset.samples import Sample
from engine.diffusion.head_map import KERNEL, RADIUS, cells_of
from engine.training.augment import COUNT_STRIDE, AugmentConfig, Crop, draw_crop
from engine.training.batches import Batches, Sizes
from engine.training.negatives import empty_picture

# Pictures without people are made once, on the CPU, where one takes as long as two crops.
_EMPTY_PICTURES = 256

# Threads that make batches ahead.
_WORKERS = 2


class DeviceBatches(Batches):
    """The crops of :class:`CrowdBatches`, a whole batch at once on ``device``, where all pictures are kept.

    A batch is the same to within a level of a pixel's 255, but for pictures without people, of which there are
    only so many here. Resizing is two products of matrices with Pillow's own filter, so that one formula covers
    position, zoom, aspect, mirroring and the zeros past the picture.
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
        *,
        device: str,
    ):
        super().__init__(samples, model, augment, batch, seed, sizes, scenes)
        self.device = torch.device(device)
        rng = np.random.default_rng(seed)
        self._people = len(self.images)
        size = augment.empty_size(self.sizes.largest)
        if augment.negatives:
            self.images += [*(empty_picture(size, rng, discs=True) for _ in range(_EMPTY_PICTURES)), *scenes]
        self.points += [np.zeros((0, 2), np.float32)] * (len(self.images) - self._people)
        shapes = np.array([image.shape[:2] for image in self.images])
        self._heights, self._widths = shapes.T
        self._starts = np.concatenate([[0], np.cumsum(shapes.prod(axis=1))])[:-1]
        # All pixels one after the other, [N, 3].
        self._pixels = torch.from_numpy(np.concatenate([x.reshape(-1, 3) for x in self.images])).to(self.device)
        self._kernel = torch.from_numpy(KERNEL).to(self.device)

    @torch.no_grad()
    def make(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """See :meth:`Batches.make`; on the device."""
        rng = np.random.default_rng((self.seed, number))
        size, batch = self.sizes.at(number)
        chosen, crops, points, texts = [], [], [], []
        for _ in range(batch):
            drawn = self.draw(rng)
            index = self._draw_empty(rng) if drawn is None else drawn
            height, width = int(self._heights[index]), int(self._widths[index])
            crop = draw_crop(height, width, self.points[index], size, self.augment, rng)
            chosen.append(index)
            crops.append(crop)
            points.append(crop.place(self.points[index], size))
            texts.append(self.draw_text(size, drawn is None, rng))
        pixels = self._recolour(self._cut(np.array(chosen), crops, size), crops)
        self._write(pixels, texts)
        heads, counts = self._head_maps(points, size), self._counts(points, size)
        return pixels.contiguous(memory_format=torch.channels_last), heads, counts

    def iterate(self, first: int) -> Generator[tuple[Tensor, Tensor, Tensor], None, None]:
        """See :meth:`Batches.iterate`; a few batches are always being made ahead, beside the device's work."""
        with ThreadPoolExecutor(_WORKERS) as pool:
            numbers = itertools.count(first)
            ahead: deque[Future] = deque()
            try:
                while True:
                    while len(ahead) < 2 * _WORKERS:
                        ahead.append(pool.submit(self.make, next(numbers)))
                    yield ahead.popleft().result()
            finally:
                for future in ahead:
                    future.cancel()

    def _draw_empty(self, rng: np.random.Generator) -> int:
        """Index of a picture without people: a real one as often as a synthetic one, where there are real ones."""
        if self.scenes and rng.random() < 0.5:
            return self._people + _EMPTY_PICTURES + int(rng.integers(len(self.scenes)))
        return self._people + int(rng.integers(2**63)) % _EMPTY_PICTURES

    def _write(self, pixels: Tensor, texts: list[tuple[np.ndarray, np.ndarray] | None]) -> None:
        for crop, text in zip(pixels, texts, strict=True):
            if text is not None:
                colour, opacity = (self._to_device(x, np.float32) for x in text)
                crop.lerp_(colour, opacity.expand_as(colour))

    def _to_device(self, values: Sequence | np.ndarray, dtype: type) -> Tensor:
        return torch.from_numpy(np.asarray(values, dtype)).to(self.device, non_blocking=True)

    def _cut(self, chosen: np.ndarray, crops: list[Crop], size: int) -> Tensor:
        """The resized parts of the pictures: float32 [B, 3, S, S], whole levels 0 .. 255, -1 past the picture."""
        box = np.array([(c.left, c.top, c.right, c.bottom) for c in crops])
        first, end = np.floor(box[:, :2]).astype(np.int64), np.ceil(box[:, 2:]).astype(np.int64)
        sides = end - first
        spans = first[:, :, None] + np.arange(sides.max())
        columns, rows = (
            # Past the last pixel that one again, whose weights are zero.
            self._to_device(np.minimum(spans[:, axis, : sides[:, axis].max()], length[chosen, None] - 1), np.int64)
            for axis, length in enumerate((self._widths, self._heights))
        )
        starts, widths = (self._to_device(x[chosen, None], np.int64) for x in (self._starts, self._widths))
        region = self._pixels[(starts + rows * widths)[:, :, None] + columns[:, None, :]]  # [B, H, W, 3]
        region = region.permute(0, 3, 1, 2).float()
        across, down = (
            self._filters(box[:, axis] - first[:, axis], box[:, axis + 2] - first[:, axis], sides[:, axis], count, size)
            for axis, count in enumerate(([c.width for c in crops], [c.height for c in crops]))
        )
        mirrored = self._to_device([c.mirrored for c in crops], np.bool_)[:, None, None]
        across = torch.where(mirrored, across.flip(1), across)
        # Whole levels after each direction, as Pillow has them.
        wide = _levels(region @ across.transpose(1, 2)[:, None])
        cut = _levels(down[:, None] @ wide)
        inside = (down.sum(2) > 0)[:, None, :, None] & (across.sum(2) > 0)[:, None, None, :]
        return torch.where(inside, cut, -1.0)

    def _filters(self, start: np.ndarray, stop: np.ndarray, sides: np.ndarray, count: list[int], size: int) -> Tensor:
        """Weights of source pixels for each pixel of the crops: float32 [B, S, largest of ``sides``].

        The pixels between ``start`` and ``stop`` of a side become ``count`` ones; as in Pillow, each is a triangle of
        weights, wider where the picture shrinks.
        """
        first, step, side, number = (
            self._to_device(x, np.float32)[:, None, None] for x in (start, (stop - start) / count, sides, count)
        )
        target = torch.arange(size, device=self.device)[:, None]
        source = torch.arange(int(sides.max()), device=self.device)
        centre = first + (target + 0.5) * step
        weights = (1 - (source + 0.5 - centre).abs() / step.clamp(min=1)).clamp(min=0)
        weights = weights * (source < side) * (target < number)
        return weights / weights.sum(2, keepdim=True).clamp(min=1e-6)

    def _recolour(self, levels: Tensor, crops: list[Crop]) -> Tensor:
        grey = self._to_device([c.grey for c in crops], np.bool_)[:, None, None, None]
        levels = torch.where(grey, levels.mean(1, keepdim=True).floor(), levels)
        tables = self._to_device(np.stack([c.colours(self.model) for c in crops]), np.float32)
        colours = tables.gather(2, levels.clamp(min=0).long().flatten(2)).view_as(levels)
        return torch.where(levels < 0, 0.0, colours)

    def _head_maps(self, points: list[np.ndarray], size: int) -> Tensor:
        """:func:`engine.diffusion.head_map.head_map` of every crop: the largest of 49 shifted copies of its cells."""
        cells = size // self.model.map_stride
        heads = torch.zeros((len(points), cells + 2 * RADIUS, cells + 2 * RADIUS), device=self.device)
        crop, row, column = self._cells(points, cells, self.model.map_stride)
        heads[crop, row + RADIUS, column + RADIUS] = 1
        found = torch.zeros((len(points), cells, cells), device=self.device)
        for y, weights in enumerate(self._kernel):
            for x, weight in enumerate(weights):
                torch.maximum(found, weight * heads[:, y : y + cells, x : x + cells], out=found)
        return found

    def _counts(self, points: list[np.ndarray], size: int) -> Tensor:
        blocks = size // COUNT_STRIDE
        crop, row, column = self._cells(points, blocks, COUNT_STRIDE)
        places = (crop * blocks + row) * blocks + column
        counts = torch.bincount(places, minlength=len(points) * blocks**2)
        return counts.view(len(points), blocks, blocks).float()

    def _cells(self, points: list[np.ndarray], cells: int, stride: int) -> tuple[Tensor, Tensor, Tensor]:
        """Crop, row and column of every head of a batch."""
        column, row = cells_of(np.concatenate(points), cells, cells, stride)
        crop = np.repeat(np.arange(len(points)), [len(x) for x in points])
        return tuple(self._to_device(x, np.int64) for x in (crop, row, column))  # type: ignore[return-value]


def _levels(values: Tensor) -> Tensor:
    return (values + 0.5).floor()
