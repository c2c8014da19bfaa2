"""Recipes: they come back as they were written, and say what is wrong with them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import ConfigError
from engine.training.augment import AugmentConfig
from engine.training.config import TrainConfig
from engine.training.recipe import read_recipe, write_recipe

RECIPES = Path(__file__).parents[2] / "training" / "recipes"


def test_a_recipe_comes_back_as_it_was_written(tmp_path):
    config = TrainConfig(iterations=7, learning_rate=2e-4, augment=AugmentConfig(scale=(0.5, 2.0)))
    write_recipe(config, tmp_path / "recipe.json")
    assert read_recipe(tmp_path / "recipe.json") == config


def test_what_is_left_out_keeps_its_default(tmp_path):
    path = tmp_path / "recipe.json"
    path.write_text('{"batch": 8, "loss": {"foreground": 4}}')
    default = TrainConfig()
    assert read_recipe(path) == replace(default, batch=8, loss=replace(default.loss, foreground=4.0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[1]", "must hold an object of settings, got list"),
        ('{"learningrate": 1}', "has no setting 'learningrate'"),
        ('{"loss": {"map": 1}}', "loss, has no setting 'map'"),
        ('{"batch": 1.5}', "batch must be a number like 16, got 1.5"),
        ('{"iterations": 1e400}', "iterations must be a number like 0, got inf"),
        ('{"minutes": NaN}', "minutes must be a number like 60.0, got nan"),
        ('{"batch": 1' + "0" * 400 + "}", "batch must be a number like 16, got 10"),
        ('{"batch": true}', "batch must be a number like 16, got True"),
        ('{"augment": {"scale": [1]}}', "scale must be 2 numbers"),
        ('{"model": {"own_rate": 1}}', "model,: own_rate must be true or false, got 1"),
        ('{"optimizer": 1}', "optimizer must be text like 'muon', got 1"),
        ('{"optimizer": "sgd"}', "optimizer must be 'muon' or 'adamw', got 'sgd'"),
    ],
)
def test_a_wrong_recipe_is_refused(tmp_path, text: str, message: str):
    path = tmp_path / "recipe.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_recipe(path)


def test_a_missing_recipe_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_recipe(tmp_path / "none.json")


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.json")), ids=lambda path: path.stem)
def test_the_recipes_in_the_repository_are_complete(path: Path, tmp_path):
    # Complete, so that a changed default does not change them.
    write_recipe(read_recipe(path), tmp_path / "again.json")
    assert json.loads(path.read_text()) == json.loads((tmp_path / "again.json").read_text())
