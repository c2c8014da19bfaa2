"""A run goes on with what it was begun with, or says what is different; no run is begun inside another."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from small_run import MODEL, make_pictures

from engine.config import CountingRule
from engine.dataset.samples import find_samples
from engine.errors import ConfigError
from engine.model.checkpoint import save_model
from engine.model.network import CrowdNetwork
from engine.training import __main__ as command
from engine.training.calibrate import set_signature
from engine.training.config import TrainConfig
from engine.training.fine_tuning import Verdict
from engine.training.judge import Change
from engine.training.recipe import config_of, write_recipe

RULE = CountingRule(0.1, 0.9, 0.5, 2.0)


@pytest.fixture
def data(tmp_path):
    make_pictures(tmp_path / "data", 14)
    return tmp_path / "data"


@pytest.fixture
def start(data, tmp_path):
    network = CrowdNetwork(MODEL).eval()
    set_signature(network, find_samples(data) * 6)
    save_model(network, {2: dataclasses.asdict(RULE)}, tmp_path / "start.pt")
    return tmp_path / "start.pt"


@pytest.fixture
def nobody(tmp_path):
    """Pictures without people, beside those of the data."""
    make_pictures(tmp_path / "nobody", 9)
    (tmp_path / "nobody" / "points.json").unlink()
    return tmp_path / "nobody"


@pytest.fixture
def trained(monkeypatch):
    """What runs were given to train on; nothing is trained, only the checkpoint of the first iteration is written."""
    calls = []

    def train(config, samples, held_out, out, **options):
        calls.append((config, [s.image.name for s in samples], [s.image.name for s in held_out], options))
        torch.save({"config": dataclasses.asdict(config)}, out / "last.pt")
        return out / "best.pt"

    def calibrate(*arguments):
        calls[-1][3]["known"] = arguments[-1]

    monkeypatch.setattr(command, "train", train)
    monkeypatch.setattr(command, "load_network", lambda _: None)
    monkeypatch.setattr(command, "_calibrate", calibrate)
    return calls


def test_a_folder_without_a_run_is_said_to_have_none(data, tmp_path, trained, capsys):
    begin(data, "--out", tmp_path / "run", "--resume", "--validate", 1)
    assert f"{tmp_path / 'run'} has no run to go on with; this one begins" in capsys.readouterr().out
    begin(data, "--out", tmp_path / "run", "--resume")
    assert "no run to go on with" not in capsys.readouterr().out


def begin(*words):
    command.main(["train", *map(str, words)])


def test_a_whole_run_goes_on_with_its_pictures(data, nobody, tmp_path, trained):
    out = tmp_path / "run"
    begin(data, "--out", out, "--exclude", 1, 2, "--validate", 3, 4, "--without-people", nobody)
    begin(data, "--out", out, "--resume")
    (_, *first, options), (_, *second, others) = trained
    assert second == first
    assert len(others["scenes"]) == len(options["scenes"]) > 0
    assert not {"p01.png", "p02.png", "p12.png"} & {*second[0], *second[1]}
    for words in (["--exclude", 1], ["--exclude"], ["--validate", 5], ["--without-people", data]):
        with pytest.raises(SystemExit, match=f"was begun with {words[0]} .*leave it out"):
            begin(data, "--out", out, "--resume", *words)
    # The same options as before are no others, from whatever folder.
    begin(data, "--out", out, "--resume", "--validate", 3, 4, "--without-people", nobody.parent / "." / "nobody")
    assert len(trained) == 3


def test_other_pictures_are_refused(data, tmp_path, trained):
    out = tmp_path / "run"
    begin(data, "--out", out)
    points = json.loads((data / "points.json").read_text())
    (data / "points.json").write_text(json.dumps(points | {"p01.png": []}))
    with pytest.raises(SystemExit, match=r"begun with 11 pictures to train on, and now there are 11; .*\(p01.png\)"):
        begin(data, "--out", out, "--resume")
    (data / "points.json").write_text(json.dumps({name: x for name, x in points.items() if name != "p05.png"}))
    (data / "images" / "p05.png").rename(data / "images" / "p25.png")
    (data / "points.json").write_text(json.dumps({name.replace("p05", "p25"): x for name, x in points.items()}))
    with pytest.raises(SystemExit, match="begun with 1 pictures held out"):
        begin(data, "--out", out, "--resume")
    # Where they lie is all the same.
    (data / "images" / "p25.png").rename(data / "images" / "p05.png")
    (data / "points.json").write_text(json.dumps(points))
    begin(data.rename(tmp_path / "moved"), "--out", out, "--resume")
    assert trained[0][1:3] == trained[1][1:3]


def test_a_whole_run_keeps_the_rule_and_the_settings_that_it_was_begun_with(data, start, tmp_path, trained):
    out, recipe = tmp_path / "run", tmp_path / "recipe.json"
    write_recipe(TrainConfig(iterations=7, learning_rate=2e-5), recipe)
    begin(data, "--out", out, "--start", start, "--recipe", recipe, "--batch", 3)
    start.rename(tmp_path / "away.pt")
    begin(data, "--out", out, "--resume", "--iterations", 9)
    (config, *_), (again, *_, options) = trained
    assert again == dataclasses.replace(config, iterations=9)
    assert (config.learning_rate, config.batch, config.model) == (2e-5, 3, MODEL)
    assert options["known"] == {2: RULE}
    # It is killed before its first checkpoint.
    (out / "last.pt").unlink()
    (tmp_path / "away.pt").rename(start)
    begin(data, "--out", out, "--resume")
    assert trained[2][0] == config
    assert trained[2][3]["start"] == str(start)


def test_settings_that_are_refused_later_are_not_kept(data, tmp_path, trained, monkeypatch):
    out, recipe = tmp_path / "run", tmp_path / "recipe.json"
    begin(data, "--out", out)
    write_recipe(TrainConfig(iterations=7, model=MODEL), recipe)

    def refuse(*_, **__):
        raise ConfigError("another network")

    with monkeypatch.context() as patch:
        patch.setattr(command, "train", refuse)
        with pytest.raises(SystemExit, match="another network"):
            begin(data, "--out", out, "--resume", "--recipe", recipe)
    begin(data, "--out", out, "--resume")
    assert trained[1][0] == trained[0][0]


def test_runs_of_earlier_versions_go_on(data, tmp_path, trained, capsys):
    out = tmp_path / "run"
    begin(data, "--out", out, "--exclude", 1)
    (out / "run.json").unlink()
    torch.save({"config": {"iterations": 5}}, out / "last.pt")
    begin(data, "--out", out, "--resume")
    assert "does not say what its run was begun with" in capsys.readouterr().out
    assert trained[1][0].iterations == 5


def test_no_run_is_begun_inside_another(data, start, tmp_path, trained):
    whole = tmp_path / "whole"
    begin(data, "--out", whole)
    for words in (["--start", start], ["--start", start, "--resume"], []):
        with pytest.raises(SystemExit, match=r"holds a run already|was begun without --start"):
            begin(data, "--out", whole, *words)
    (whole / "run.json").unlink()
    with pytest.raises(SystemExit, match="holds a whole run"):
        begin(data, "--out", whole, "--start", start, "--resume")
    assert not (whole / "start.pt").exists()
    assert len(trained) == 1


@pytest.fixture
def tuned(monkeypatch):
    """The settings of networks that were tuned; nothing is trained, and the first run is stopped at its end."""
    calls = []

    def train(config, samples, held_out, out, *options):
        calls.append((config, len(samples), len(options[-1])))
        if len(calls) == 1:
            raise KeyboardInterrupt
        return out.parent / "untuned.pt"

    verdict = Verdict(0.5, Change(12, 3.0, 2.0, -1.0, 0.1), None, "")
    monkeypatch.setattr("engine.training.fine_tuning.train", train)
    monkeypatch.setattr("engine.training.fine_tuning._judge", lambda *_: verdict)
    return calls


def test_a_tuning_goes_on_with_its_settings(data, nobody, start, tmp_path, tuned):
    out = tmp_path / "out"
    asked = ["--iterations", 3, "--learning-rate", 1e-2, "--seed", 7, "--batch", 2, "--exclude", 1]
    with pytest.raises(KeyboardInterrupt):
        begin(data, "--out", out, "--start", start, *asked, "--without-people", nobody)
    begin(data, "--out", out, "--resume")
    first, again = tuned[:2]
    assert again == first
    assert (first[0].iterations, first[0].learning_rate, first[0].seed, first[0].batch) == (3, 1e-2, 8, 2)
    assert config_of(json.loads((out / "fine_tuning.json").read_text())["config"], "").seed == 7
    for words, message in (
        (["--iterations", 75], "begun with iterations 3 and not 75"),
        (["--exclude"], "begun with --exclude 1"),
        (["--start", "default"], "begun with --start .*start.pt"),
        (["--recipe", "any.json"], "goes on with the settings that it was begun with"),
        (["--label", "head"], "begun without --label"),
    ):
        with pytest.raises(SystemExit, match=message):
            begin(data, "--out", out, "--resume", *words)
    with pytest.raises(SystemExit, match="holds a fine-tuning already"):
        begin(data, "--out", out)
    assert len(tuned) == 7
