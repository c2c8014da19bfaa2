"""What ``crowd count`` saves beside its rows, with a stand-in counter, and what it overwrites: nothing."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from stand_in_counter import StandInResult, crowd

from engine.errors import ConfigError


def test_a_device_is_written_to_and_not_replaced(pictures):
    assert crowd("count", pictures / "a.jpg", "--json", os.devnull) == 0
    assert not Path(os.devnull).is_file()


def test_overlays_and_maps_of_several_inputs_do_not_collide(pictures, tmp_path):
    out = tmp_path / "new/out"
    assert crowd("count", pictures, "--save", out, "--save-map", out) == 0
    names = ["a.jpg", "a.npy", "b.jpg", "b.npy", "deep/a.jpg", "deep/a.npy"]
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*.*")) == names
    assert (out / "deep" / "a.jpg").read_text() == "overlay of 3"
    assert np.load(out / "b.npy").sum() == pytest.approx(2)


def test_a_picture_without_a_suffix_is_not_overwritten_either(tmp_path, capsys):
    (tmp_path / "photo").write_bytes(b"1")
    assert crowd("count", tmp_path / "photo", "--csv", tmp_path / "photo") == 2
    assert "would overwrite" in capsys.readouterr().err
    assert (tmp_path / "photo").read_bytes() == b"1"


@pytest.mark.parametrize("error", [ConfigError("too wide for JPEG"), OSError("the disk is full")])
def test_an_overlay_that_cannot_be_saved_costs_no_count(error, pictures, tmp_path, monkeypatch, capsys):
    save = StandInResult.save

    def fail_for_first(result, path):
        if Path(path) == tmp_path / "overlays" / "a.jpg":
            raise error
        save(result, path)

    monkeypatch.setattr(StandInResult, "save", fail_for_first)
    assert crowd("count", pictures, "--save", tmp_path / "overlays", "--csv", tmp_path / "o.csv") == 1
    rows = list(csv.DictReader((tmp_path / "o.csv").read_text().splitlines()))
    assert [Path(row["file"]).name for row in rows][:2] == ["a.jpg", "b.PNG"]
    assert len(list((tmp_path / "overlays").rglob("*.jpg"))) == len(rows) - 1
    assert capsys.readouterr().err == (
        f"crowd: {pictures / 'a.jpg'}: {error}\ncrowd: 3 pictures counted, 6 people in them; 1 with an error\n"
    )


def test_one_input_is_saved_under_the_name_given(pictures, tmp_path):
    assert crowd("count", pictures / "a.jpg", "--save", tmp_path / "o.png", "--save-map", tmp_path / "m.npy") == 0
    assert (tmp_path / "o.png").read_text() == "overlay of 1"
    assert np.load(tmp_path / "m.npy").shape == (2, 3)


@pytest.mark.parametrize(
    "arguments",
    [
        ["{}/a.jpg", "--save", "{}/a.jpg"],
        ["{}", "--save", "{}"],
        ["{}", "--save", "{}/new.jpg"],
        ["{}", "--save-map", "{}/new.npy"],
        ["{}/b.PNG", "--json", "{}/a.jpg"],
        ["{}/b.PNG", "--csv", "{}/deep"],
        ["{}/b.PNG", "--csv", "{}/nowhere/x.csv"],
        ["{}/b.PNG", "--json", "--csv"],
        ["{}/b.PNG", "--save-map", "map.png"],
        ["{}/b.PNG", "--save", "{}/o.gif"],
        ["{}/b.PNG", "--save", "{}/o"],
        ["{}/b.PNG", "--json", "{}/same", "--csv", "{}/deep/../same"],
        ["{}/b.PNG", "--json", "{}/x.npy", "--save-map", "{}/x.npy"],
    ],
)
def test_bad_usage_touches_no_picture(arguments, pictures, capsys):
    before = {p: p.read_bytes() for p in pictures.rglob("*") if p.is_file()}
    assert crowd("count", *(a.format(pictures) for a in arguments)) == 2
    assert capsys.readouterr().err.startswith("crowd: ")
    assert {p: p.read_bytes() for p in pictures.rglob("*") if p.is_file()} == before
