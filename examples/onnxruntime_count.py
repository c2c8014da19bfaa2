"""Count the people in a picture with ONNX Runtime and NumPy alone, from the files of a bundle.

    pip install numpy pillow onnxruntime
    python onnxruntime_count.py BUNDLE photo.jpg

BUNDLE is a folder that ``crowd export`` wrote, or that of the shipped model. Count and points are the engine's in
float32, but for crowds so dense that heads have no peaks of their own: the engine adds those. There are no zones, no
interval and no tiles: a picture that would need tiles is refused.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

# Inputs are padded to multiples of PADDING; features and latent have one cell for each STRIDE x STRIDE pixels.
PADDING, STRIDE, MAX_PIXELS = 32, 8, 2048 * 2048


def count(bundle: Path, rgb: np.ndarray) -> np.ndarray:
    """The heads in a picture: uint8 [H, W, 3] -> float32 [N, 2], (x, y) in pixels."""
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    model, steps, rules = manifest["model"], manifest["default_steps"], manifest["counting"]
    rule, cell = rules[min(rules, key=lambda known: (abs(int(known) - steps), int(known)))], model["map_stride"]
    encoder, decoder = (_session(bundle, manifest["programs"][name]) for name in ("encoder", "decoder"))
    height, width = rgb.shape[:2]
    features, rate, _ = encoder(_network_input(rgb, model))
    heatmap = _denoise(decoder, features, steps, model)[: -(-height // cell), : -(-width // cell)]
    # What the encoder expects beyond the picture's edge is padding.
    heads = float(rate[0, 0, : -(-height // STRIDE), : -(-width // STRIDE)].sum(dtype=np.float64))
    return np.minimum(_heads(heatmap, heads, rule) * np.float32(cell), np.float32([width, height]))


def _session(bundle: Path, program: dict):
    session = onnxruntime.InferenceSession(bundle / program["graph"], providers=["CPUExecutionProvider"])
    return lambda *arrays: session.run(program["outputs"], dict(zip(program["inputs"], arrays, strict=True)))


def _network_input(rgb: np.ndarray, model: dict) -> np.ndarray:
    """Float32 [1, 3, H', W'], padded on the right and below with the mean pixel, which is 0."""
    height, width = (side + -side % PADDING for side in rgb.shape[:2])
    if height * width > MAX_PIXELS:
        sys.exit(f"the picture is larger than {MAX_PIXELS} pixels; make it smaller, or cut it into tiles that overlap")
    padded = np.zeros((height, width, 3), np.float32)
    padded[: rgb.shape[0], : rgb.shape[1]] = (rgb / 255 - model["pixel_mean"]) / model["pixel_std"]
    return np.ascontiguousarray(padded.transpose(2, 0, 1)[None])


def _denoise(decoder, features: np.ndarray, steps: int, model: dict) -> np.ndarray:
    """From noise to the head map, float32 [h, w] in [0, 1]: deterministic DDIM with clamped estimates of x_0."""
    factor, limit = STRIDE // model["map_stride"], model["map_scale"]
    shape = (1, factor**2, *features.shape[2:])
    # The engine's noise of seed 0 and sample 0.
    random = np.random.Generator(np.random.Philox(np.random.SeedSequence((0, 0, *shape))))
    x_t = random.standard_normal(shape, np.float32)
    for step in range(steps):
        t, t_next = 1 - step / steps, max(1 - (step + 2) / steps, 0.0)
        x_0 = np.clip(decoder(features, x_t, np.float32([t]))[0], -limit, limit)
        (alpha, sigma), (alpha_next, sigma_next) = _scales(t), _scales(t_next)
        x_t = (alpha_next * x_0 + sigma_next / max(sigma, 1e-8) * (x_t - alpha * x_0)).astype(np.float32)
    # Depth to space: each channel is one cell of a block of factor x factor.
    cells = x_0[0].reshape(factor, factor, *shape[2:]).transpose(2, 0, 3, 1)
    return np.clip(cells.reshape(shape[2] * factor, -1) / (2 * limit) + 0.5, 0, 1)


def _scales(t: float) -> tuple[float, float]:
    """Scale of the signal and of the noise at time t: the cosine schedule of DDP."""
    ratio = max(np.tan((t + 2e-4) / (1 + 2.5e-4) * np.pi / 2) ** 2, 1e-5)
    return (1 / (1 + ratio)) ** 0.5, (ratio / (1 + ratio)) ** 0.5


def _heads(heatmap: np.ndarray, rate: float, rule: dict) -> np.ndarray:
    """Peaks in cells: above ``high`` all count, above ``low`` the strongest, as many as are expected."""
    framed = np.pad(heatmap, 1, constant_values=-1)
    around = np.lib.stride_tricks.sliding_window_view(framed, (3, 3)).reshape(*heatmap.shape, 9)
    peak = (heatmap[..., None] > around[..., :4]).all(-1) & (heatmap[..., None] >= around[..., 5:]).all(-1)
    y, x = np.nonzero(peak & (heatmap >= (rule["low"] / 2 if rule.get("beyond_peaks") else rule["low"])))
    scores, sure = heatmap[y, x], int((heatmap[y, x] >= rule["high"]).sum())
    # Nobody, unless one peak at least is as high as in pictures with people.
    number = round(np.exp(rule["offset"]) * (rate + 5) - 5) if scores.max(initial=0) >= rule["gate"] else 0
    kept = np.sort(np.argsort(-scores, kind="stable")[: int(np.clip(number, sure, len(scores)))])
    y, x, scores = y[kept] + 1, x[kept] + 1, scores[kept]
    offsets = [_vertex(framed[y, x - 1], scores, framed[y, x + 1]), _vertex(framed[y - 1, x], scores, framed[y + 1, x])]
    return (np.stack([x, y], axis=1) - 0.5 + np.stack(offsets, axis=1)).astype(np.float32)


def _vertex(before: np.ndarray, centre: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Where the parabola through three neighbours has its top; 0 at the border of the map."""
    curvature = 2 * (2 * centre - before - after)
    inside = (before >= 0) & (after >= 0) & (curvature > 0)
    return np.where(inside, np.clip((after - before) / np.where(inside, curvature, 1), -0.5, 0.5), 0)


if __name__ == "__main__":
    heads = count(Path(sys.argv[1]), np.asarray(ImageOps.exif_transpose(Image.open(sys.argv[2])).convert("RGB")))
    print(f"{len(heads)} people", *(f"{x:.1f},{y:.1f}" for x, y in heads), sep="\n")
