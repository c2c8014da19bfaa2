"""Which pictures the words of a command mean, and where their files go."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from engine.cli.inputs import find_pictures
from engine.cli.outputs import plan_targets
from engine.stream.sources import find_folder


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("a.jpg", "b.PNG", "deep/a.jpg", "notes.txt"):
        (tmp_path / name).touch()
    return tmp_path


def test_patterns_are_expanded_without_a_shell(folder):
    assert find_pictures([f"{folder}/*.jpg"]).paths == (str(folder / "a.jpg"),)
    assert find_pictures([f"{folder}/**/*.jpg"]).paths == (str(folder / "a.jpg"), str(folder / "deep/a.jpg"))
    # A folder among the matches is walked; other files that match were asked for.
    found = find_pictures([f"{folder}/[dn]*"])
    assert found.paths == (str(folder / "deep/a.jpg"), str(folder / "notes.txt"))
    assert found.many


def test_a_name_with_pattern_characters_is_a_file_first(tmp_path):
    (tmp_path / "a[1].jpg").write_bytes(b"x")
    assert find_pictures([str(tmp_path / "a[1].jpg")]).paths == (str(tmp_path / "a[1].jpg"),)


def test_folders_with_pattern_characters_are_there_as_they_are(tmp_path):
    for name in ("trip[1]/a.jpg", "trip1/b.jpg", "x[y]/deep/c.jpg", "n/10.jpg", "n/9.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def names(pattern: str) -> list[str]:
        return [Path(path).name for path in find_pictures([str(tmp_path / pattern)]).paths]

    assert names("trip[1]/*.jpg") == ["a.jpg"]
    assert names("trip[1]/?.jpg") == ["a.jpg"]
    assert names("x[y]/*/*.jpg") == names("x[y]/**/*.jpg") == ["c.jpg"]
    assert names("trip[12]/*.jpg") == ["b.jpg"]
    assert names("n/*.jpg") == names("n") == ["9.jpg", "10.jpg"]


def test_folders_are_walked_through_links_but_not_in_circles(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "c.jpg").touch()
    (folder / "year").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(folder)
    found = find_pictures([str(folder)])
    assert found.paths == tuple(str(folder / name) for name in ("a.jpg", "b.PNG", "deep/a.jpg", "year/c.jpg"))
    assert found.problems == ()


def test_what_a_folder_has_and_cannot_be_counted_is_a_problem(folder, monkeypatch):
    for name in ("p.JXL", "q.jxl", "deep/r.dng"):
        (folder / name).touch()
    (folder / "locked").mkdir()
    scan = os.scandir

    def refuse(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = find_pictures([str(folder)])
    assert found.paths == tuple(str(folder / name) for name in ("a.jpg", "b.PNG", "deep/a.jpg"))
    assert dict(found.problems) == {
        str(folder): "left out 2 in formats that are not read (.jxl); convert them",
        str(folder / "deep"): "left out 1 in formats that are not read (.dng); convert them",
        str(folder / "locked"): "Permission denied",
    }


def test_what_is_not_there_is_a_file_a_pattern_or_a_folder(folder):
    missing = [f"{folder}/none.jpg", f"{folder}/none", f"{folder}/*.none", f"{folder}/none/"]
    found = find_pictures(missing)
    assert found.paths == tuple(missing[:2])
    assert found.problems == ((missing[2], "no file matches this pattern"), (missing[3], "no such folder"))


def test_files_that_macos_keeps_beside_others_are_no_pictures(folder):
    for name in ("._a.jpg", "deep/._a.jpg", "._r.dng"):
        (folder / name).touch()
    found = find_pictures([str(folder)])
    assert found.paths == tuple(str(folder / name) for name in ("a.jpg", "b.PNG", "deep/a.jpg"))
    assert found.problems == ()
    assert find_pictures([str(folder / "._a.jpg")]).paths == (str(folder / "._a.jpg"),)
    assert find_folder(folder) == [str(folder / name) for name in ("a.jpg", "b.PNG")]


def test_generated_names_keep_the_folders_below_the_common_one():
    pictures = ["day/x/a.jpg", "day/y/A.png", "day/y/a.jpg", "day/y/a-2.jpg", "-", "day/w/z/a.jpg", "day/y/a.jpg"]
    targets = plan_targets(pictures, "out", ".npy", many=True)
    expected = ["x/a", "y/A", "y/a-2", "y/a-2-2", "stdin", "w/z/a", "y/a-3"]
    assert [str(t) for t in targets] == [f"out/{name}.npy" for name in expected]
    assert [str(t) for t in plan_targets(["day/a.jpg", "day/b.jpg"], "out", ".npy", many=True)] == [
        "out/a.npy",
        "out/b.npy",
    ]


def test_names_of_many_pictures_that_are_called_alike_take_linear_time():
    """Twice as many took four times as long; thousands took minutes."""
    pictures = [f"cam{i % 100:05}/snapshot.jpg" for i in range(50_000)]
    start = time.process_time()
    targets = plan_targets(pictures, "no-such-folder", ".jpg", many=True)
    assert time.process_time() - start < 20
    assert len({str(target) for target in targets}) == len(pictures)
    assert str(targets[-1]) == "no-such-folder/cam00099/snapshot-500.jpg"
