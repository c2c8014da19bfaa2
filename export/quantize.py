"""Post-training quantisation: int8 convolutions for a bundle, calibrated on pictures, float where int8 costs too much.

The grids are fitted to those that convolutions read while training pictures are counted, over all denoising steps
(:mod:`engine.export.calibration`). Then each convolution is quantised alone, to see how far counts and maps then differ
(:mod:`engine.export.agreement`); if all together differ too far, those that cost most stay float: mixed precision by
sensitivity.
"""

from __future__ import annotations

import fnmatch
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
from onnx.external_data_helper import load_external_data_for_model
from safetensors.numpy import load_file, save_file
from tqdm import tqdm

from engine.bundle.bundle import WEIGHTS_FILE, Bundle, SegmentStage, add_files, load_bundle
from engine.dataset.samples import Sample
from engine.errors import ConfigError
from engine.export.agreement import MAPS_OVER_COUNTS, Heads, disagreement
from engine.export.calibration import GraphRunner, calibrate, channel_means, mean_outputs, session
from engine.export.quantized_onnx import Grid, QuantizedWeight, convolutions, quantize_weight, quantized_graph
from engine.export.typed_onnx import typed_name
from engine.export.weights import external, weight_spans
from engine.image.load import load_image

INT8 = "int8"
INT8_WEIGHTS_FILE = "weights.int8.safetensors"
# Parts of pictures: a count of a whole one holds all that its convolutions read, 250 MB for a megapixel.
_MOST_SIDE = 1024
# Sensitivity is measured on few and small parts, as each convolution needs runs of its own.
_EXAMPLES, _EXAMPLE_SIDE = 6, 512
# Means of channels settle on more of such parts.
_MEANS = 16

# A convolution: its program and its name there.
Key = tuple[str, str]
Grids = Mapping[str, Mapping[str, Grid]]
# Offset and length in a file.
Span = tuple[int, int]


@dataclass(frozen=True)
class Sensitivity:
    """What one convolution in int8 costs.

    Attributes:
        error: how far it is from float32 with nothing else in int8, as :func:`engine.export.agreement.disagreement`.
        quantized: whether it is int8 in the bundle.
    """

    program: str
    convolution: str
    error: float
    quantized: bool


@dataclass(frozen=True)
class QuantizeReport:
    """What was quantised; ``str()`` is a table.

    Attributes:
        bundle: as it is now.
        rows: every convolution of the network.
        together: error of all int8 convolutions together, as of one.
        pictures: number of pictures that were counted to calibrate.
        nbytes: of all files of the bundle.
    """

    bundle: Bundle
    rows: tuple[Sensitivity, ...]
    together: float
    pictures: int
    nbytes: int

    def __str__(self) -> str:
        lines = [
            f"{x.program:<10}{x.convolution:<36}{x.error:>10.2%}  {INT8 if x.quantized else 'float'}" for x in self.rows
        ]
        count = sum(x.quantized for x in self.rows)
        return "\n".join(
            [
                f"{'program':<10}{'convolution':<36}{'error':>10}  type",
                *lines,
                f"{'all of type int8 together':<46}{self.together:>10.2%}",
                f"{self.bundle.path}: {count} of {len(self.rows)} convolutions in int8, calibrated on {self.pictures} "
                f"pictures; {self.nbytes / 2**20:.1f} MiB, digest {self.bundle.digest[:12]}",
            ]
        )


def choose_pictures(samples: Sequence[Sample], exclude: Collection[int], number: int) -> list[Path]:
    """``number`` pictures to calibrate on, spread evenly over the data set.

    Args:
        samples: of the data set.
        exclude: last digits of picture numbers that are never looked at, as training splits them.
        number: of pictures; all there are, if they are fewer.

    Errors: ConfigError if none is left, or for a digit or a number that cannot be.
    """
    wrong = sorted(set(exclude) - set(range(10)))
    if wrong:
        raise ConfigError(f"digits to exclude are from 0 to 9, got {', '.join(map(str, wrong))}")
    if number < 1:
        raise ConfigError(f"the number of pictures must be at least 1, got {number}")
    left = [x.image for x in samples if x.number % 10 not in exclude]
    if not left:
        digits = " ".join(map(str, sorted(exclude)))
        raise ConfigError(f"none of the {len(samples)} pictures is left without those whose number ends in {digits}")
    return spread_over(left, number)


def spread_over(pictures: Sequence[Path], number: int) -> list[Path]:
    """``number`` of ``pictures``, evenly spaced from the first to the last; all of them, if they are fewer."""
    places = np.linspace(0, len(pictures) - 1, min(number, len(pictures)))
    return [pictures[round(place)] for place in places]


def quantize_bundle(
    path: str | Path,
    pictures: Sequence[Path],
    *,
    limit: float = 0.01,
    keep_float: Sequence[str] = (),
    progress: bool = False,
) -> QuantizeReport:
    """Put int8 graphs of every segment into a bundle, as type "int8", or replace them.

    Args:
        path: bundle folder or "default"; written to once everything is known.
        pictures: files to calibrate on, at least one; none that the model is judged by.
        limit: share of the people by whom counts may differ with all int8 convolutions together; maps may by five times
            that.
        keep_float: patterns, such as ``rate*``, of convolutions that stay float whatever their error.
        progress: show a bar on stderr.

    Errors: BundleError for a bad bundle; ImageError for a picture that cannot be read; ConfigError for arguments that
    cannot be, or leave nothing to quantise.
    """
    if not 0 < limit < float("inf"):
        raise ConfigError(f"the limit is a share of the people and must be above 0, such as 0.01, got {limit}")
    if not pictures:
        raise ConfigError("there is no picture to calibrate on; give at least one")
    quantizer = _Quantizer(load_bundle(path), pictures, progress)
    floats = quantizer.matching(keep_float) | quantizer.joining()
    quantizer.measure()
    errors = quantizer.sensitivities()
    chosen = set(errors) - floats
    while chosen and (together := quantizer.error(chosen)) > limit:
        chosen.remove(max((key for key in errors if key in chosen), key=errors.__getitem__))
    if not chosen:
        raise ConfigError(
            f"no convolution can be int8: with any that is not kept float, counts differ by more than {limit:.2%}, or "
            f"maps by more than {MAPS_OVER_COUNTS * limit:.2%}; raise the limit, or keep fewer float"
        )
    bundle = quantizer.write(chosen)
    rows = tuple(Sensitivity(*key, error, key in chosen) for key, error in errors.items())
    nbytes = sum(file.stat().st_size for file in bundle.path.iterdir())
    return QuantizeReport(bundle, rows, together, len(pictures), nbytes)


class _Quantizer:
    """One bundle, its whole graphs with their weights inside, and its weights in int8."""

    def __init__(self, bundle: Bundle, pictures: Sequence[Path], progress: bool):
        self._bundle, self._pictures, self._progress = bundle, pictures, progress
        self._graphs = {name: onnx.load(str(bundle.path / x.graph)) for name, x in bundle.programs.items()}
        self._convolutions = {name: convolutions(graph) for name, graph in self._graphs.items()}
        self._keys = [(program, name) for program, found in self._convolutions.items() for name in found]
        stored = load_file(bundle.path / WEIGHTS_FILE)
        found = [x for tensors in self._convolutions.values() for x in tensors.values()]
        self._stored = {name: stored[name].astype(np.float32) for _, *pair in found for name in pair}
        self._weights = {weight: quantize_weight(self._stored[weight]) for _, weight, _ in found}
        self._float32 = {name: session(graph) for name, graph in self._graphs.items()}
        self._grids: Grids = {}
        self._biases: dict[str, dict[str, np.ndarray]] = {}
        self._examples: list[np.ndarray] = []
        self._exact: list[Heads] = []

    def matching(self, patterns: Sequence[str]) -> set[Key]:
        """The convolutions whose names any of ``patterns`` fits."""
        for pattern in patterns:
            if not any(fnmatch.fnmatchcase(name, pattern) for _, name in self._keys):
                names = ", ".join(dict.fromkeys(name for _, name in self._keys))
                raise ConfigError(f"no convolution is called {pattern!r}; there are {names}")
        return {key for key in self._keys for pattern in patterns if fnmatch.fnmatchcase(key[1], pattern)}

    def joining(self) -> set[Key]:
        """The convolutions that read joined tensors, which OpenVINO 2026.4 computes wrongly in int8: 20 % off."""
        joined = {x.output[0] for graph in self._graphs.values() for x in graph.graph.node if x.op_type == "Concat"}
        return {key for key in self._keys if self._convolutions[key[0]][key[1]][0] in joined}

    def measure(self) -> None:
        """Grids from all pictures, and the heads in parts of a few, to judge convolutions by."""
        bar = tqdm(self._pictures, desc="calibrate", unit="image", disable=not self._progress, leave=False)
        self._grids = calibrate(self._bundle, self._graphs, (_centre(load_image(x), _MOST_SIDE) for x in bar))
        runner = GraphRunner(self._bundle, self._float32)
        self.correct_biases()
        chosen = spread_over(self._pictures, _EXAMPLES)
        self._examples = [_centre(load_image(picture), _EXAMPLE_SIDE) for picture in chosen]
        self._exact = [runner.heads(image) for image in self._examples]
        if not any(count for count, _ in self._exact):
            raise ConfigError(
                f"{self._bundle.name} counts nobody in the pictures to calibrate on; give some with people"
            )

    def correct_biases(self) -> None:
        """Move the bias of each convolution by the mean of what rounding its weight and what it reads loses.

        Source: Nagel et al., "Data-free quantization through weight equalization and bias correction", ICCV 2019;
        with means measured on pictures. Without it counts drift, as clipping only ever lowers values.
        """
        parts = (_centre(load_image(x), _EXAMPLE_SIDE) for x in spread_over(self._pictures, _MEANS))
        means = channel_means(self._bundle, self._graphs, parts, self._grids)
        for program, found in self._convolutions.items():
            self._biases[program] = {}
            for name, (tensor, weight, bias) in found.items():
                rounded = self._weights[weight]
                kernels = self._stored[weight].sum(axis=(2, 3)), rounded.values.sum(axis=(2, 3), dtype=np.float64)
                exact, ours = means[program][tensor]
                lost = mean_outputs(kernels[0], exact) - mean_outputs(kernels[1] * rounded.scales[:, None], ours)
                self._biases[program][name] = (self._stored[bias] + lost).astype(np.float32)

    def sensitivities(self) -> dict[Key, float]:
        """The error of each convolution alone."""
        bar = tqdm(self._keys, desc="sensitivity", unit="convolution", disable=not self._progress, leave=False)
        return {key: self.error({key}) for key in bar}

    def error(self, keys: Collection[Key]) -> float:
        """How far the convolutions ``keys`` in int8 are from float32, on the examples."""
        sessions = dict(self._float32)
        for program in {program for program, _ in keys}:
            names = {name for x, name in keys if x == program}
            sessions[program] = session(self._int8(program, self._graphs[program], names))
        runner = GraphRunner(self._bundle, sessions)
        return disagreement(self._exact, [runner.heads(image) for image in self._examples])

    def write(self, chosen: Collection[Key]) -> Bundle:
        """Add the int8 weights and the int8 graph of every segment to the bundle."""
        used = {self._convolutions[program][name][1] for program, name in chosen}
        weights, spans = _stored({name: self._weights[name] for name in sorted(used)})
        contents, programs = {INT8_WEIGHTS_FILE: weights}, {}
        for key, program in self._bundle.programs.items():
            names = {name for x, name in chosen if x == key}
            stages = []
            for stage in program.stages:
                if isinstance(stage, SegmentStage):
                    file = typed_name(stage.graph, INT8)
                    contents[file] = self._segment(key, stage, names, spans)
                    stage = replace(stage, typed={**stage.typed, INT8: file})
                stages.append(stage)
            programs[key] = replace(program, stages=tuple(stages))
        versions = {"onnxruntime": metadata.version("onnxruntime")}
        return add_files(self._bundle.path, contents, versions, programs)

    def _int8(self, program: str, graph: onnx.ModelProto, names: Collection[str]) -> onnx.ModelProto:
        return quantized_graph(graph, names, self._grids[program], self._weights, self._biases[program])

    def _segment(self, program: str, stage: SegmentStage, names: Collection[str], spans: Mapping[str, Span]) -> bytes:
        segment = onnx.load(str(self._bundle.path / stage.graph), load_external_data=False)
        model = self._int8(program, segment, names)
        _check(model, self._bundle.path)
        for tensor in model.graph.initializer:
            if tensor.name in spans:
                span, data_type = spans[tensor.name], tensor.data_type
                tensor.CopyFrom(external(tensor.name, list(tensor.dims), span, data_type, INT8_WEIGHTS_FILE))
        content: bytes = model.SerializeToString(deterministic=True)
        return content


def _centre(image: np.ndarray, side: int) -> np.ndarray:
    """The middle of a picture [H, W, 3], at most ``side`` pixels high and wide."""
    top, left = (max(size - side, 0) // 2 for size in image.shape[:2])
    return image[top : top + side, left : left + side]


def _stored(weights: Mapping[str, QuantizedWeight]) -> tuple[bytes, dict[str, Span]]:
    """The contents of the file of int8 weights, and where each tensor lies in it."""
    tensors = {f"{name}.int8": x.values for name, x in weights.items()}
    tensors |= {f"{name}.scale": x.scales for name, x in weights.items()}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / INT8_WEIGHTS_FILE
        save_file(tensors, file)
        return file.read_bytes(), weight_spans(file)


def _check(model: onnx.ModelProto, folder: Path) -> None:
    """The graph as a whole, with its float weights inside."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    load_external_data_for_model(copy, str(folder))
    onnx.checker.check_model(copy, full_check=True)
