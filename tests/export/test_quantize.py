"""The command that puts int8 convolutions into a bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from int8_bundle import GENEROUS, SEGMENTS, copy_bundle, noise_pictures, segments

from engine.bundle.bundle import Bundle, load_bundle
from engine.dataset.samples import Sample, find_samples
from engine.errors import BundleError, ConfigError, ImageError
from engine.export import quantize
from engine.export.__main__ import main
from engine.export.quantize import QuantizeReport, choose_pictures, quantize_bundle


def test_everything_else_stays(bundle: Bundle, quantized: Bundle) -> None:
    for file in bundle.path.iterdir():
        if file.name != "manifest.json":
            assert (quantized.path / file.name).read_bytes() == file.read_bytes(), file.name
    for program, number in SEGMENTS:
        before, after = (segments(x, program)[number] for x in (bundle, quantized))
        assert after.typed == {**before.typed, "int8": before.graph.replace(".onnx", ".int8.onnx")}
        assert (after.graph, after.inputs, after.outputs) == (before.graph, before.inputs, before.outputs)
    assert quantized.versions.keys() - bundle.versions.keys() == {"onnxruntime"}


def test_again_gives_the_same_bytes(report: QuantizeReport, pictures: list[Path], tmp_path: Path) -> None:
    """From a bundle that has int8 graphs of other settings already, too."""
    folder = copy_bundle(report.bundle, tmp_path / "again")
    first = quantize_bundle(folder, pictures[:1], limit=GENEROUS)
    assert first.bundle.digest != report.bundle.digest
    again = quantize_bundle(folder, pictures, limit=GENEROUS, keep_float=["merge*", "rate.out.conv"])
    assert again.bundle.digest == report.bundle.digest


def test_the_worst_convolutions_stay_float(
    report: QuantizeReport, bundle: Bundle, pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each convolution has an error of its own, and together they have the sum."""
    parts = {("encoder", "smooth.conv.conv"): 0.5, ("decoder", "out.conv"): 0.25}
    monkeypatch.setattr(quantize._Quantizer, "error", lambda _, keys: sum(parts.get(key, 0.001) for key in keys))
    rest = 0.001 * (len(report.rows) - 3)
    for limit, floats in ((1.0, set()), (0.25 + rest, {"smooth.conv.conv"}), (rest, {"smooth.conv.conv", "out.conv"})):
        folder = copy_bundle(bundle, tmp_path / str(limit))
        made = quantize_bundle(folder, pictures[:1], limit=limit + 1e-9)
        # What reads joined tensors is float in any case.
        assert {x.convolution for x in made.rows if not x.quantized} == floats | {"merge.conv"}
        assert made.together == pytest.approx(sum(x.error for x in made.rows if x.quantized))
    with pytest.raises(ConfigError, match="no convolution can be int8: with any that is not kept"):
        quantize_bundle(copy_bundle(bundle, tmp_path / "none"), pictures[:1], limit=1e-9)
    assert load_bundle(tmp_path / "none").digest == bundle.digest


def _samples(*numbers: int) -> list[Sample]:
    return [Sample(Path(f"IMG_{number}.jpg"), np.zeros((0, 2), np.float32), "part_A") for number in numbers]


def test_choice_of_pictures() -> None:
    samples = _samples(*range(100))
    chosen = choose_pictures(samples, [0, 5], 9)
    numbers = [int(x.stem[4:]) for x in chosen]
    assert len(set(numbers)) == 9
    assert not {x % 10 for x in numbers} & {0, 5}
    assert (numbers[0], numbers[-1]) == (1, 99)
    assert len(choose_pictures(samples, [0, 5], 1000)) == 80
    with pytest.raises(ConfigError, match="none of the 2 pictures is left without those whose number ends in 0 5"):
        choose_pictures(_samples(10, 25), [5, 0], 4)
    with pytest.raises(ConfigError, match="digits to exclude are from 0 to 9, got 10, 25"):
        choose_pictures(samples, [25, 5, 10], 4)
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        choose_pictures(samples, [0], 0)


def test_command_line(bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, data = copy_bundle(bundle, tmp_path / "small"), noise_pictures(tmp_path / "data", (1, 10, 15))
    # Pictures of the splits that training holds out cannot even be read.
    for number in (10, 15):
        (data / "images" / f"IMG_{number}.png").write_bytes(b"no picture")
    words = ["quantize", str(folder), str(data), "--limit", "1e6", "--float", "merge.*"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "calibrated on 1 pictures" in text
    assert load_bundle(folder).digest[:12] in text
    assert main([*words, "--exclude", "5"]) == 2
    assert "IMG_10.png" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--float", "stem*"], "no convolution is called 'stem*'; there are stride2.0.conv.conv, "),
        (["--limit", "0"], "must be above 0, such as 0.01, got 0.0"),
        (["--limit", "nan"], "must be above 0, such as 0.01, got nan"),
        (["--exclude", "11"], "digits to exclude are from 0 to 9, got 11"),
        (["--exclude", "1", "2", "3"], "none of the 3 pictures is left"),
        (["--pictures", "-1"], "at least 1, got -1"),
        (["--float", "*"], "no convolution can be int8"),
    ],
)
def test_nonsense_is_refused(
    bundle: Bundle, data: Path, words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy_bundle(bundle, tmp_path / "small")
    assert main(["quantize", str(folder), str(data), *words]) == 2
    assert message in capsys.readouterr().err
    assert load_bundle(folder).digest == bundle.digest


def test_bad_files(bundle: Bundle, data: Path, pictures: list[Path], tmp_path: Path) -> None:
    assert main(["quantize", str(tmp_path), str(data)]) == 2
    assert main(["quantize", str(bundle.path), str(tmp_path / "missing")]) == 2
    with pytest.raises(BundleError, match="no manifest"):
        quantize_bundle(tmp_path, pictures)
    with pytest.raises(ImageError, match="missing"):
        quantize_bundle(bundle.path, [tmp_path / "missing.jpg"])
    with pytest.raises(ConfigError, match="no picture to calibrate on"):
        quantize_bundle(bundle.path, [])
    assert len(find_samples(data)) == 3
