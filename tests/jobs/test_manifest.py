"""Manifests of each kind give the same entries, from any row on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import ConfigError
from engine.jobs.manifest import Manifest
from engine.jobs.row import Entry

FILES = [f"s3://bucket/{i}, ä.jpg" for i in range(10)]
IDS = [i * i + 5 for i in range(10)]


def write(folder: Path, kind: str) -> Path:
    """The same ten pictures."""
    path = folder / f"manifest.{kind}"
    table = pa.table({"note": ["x"] * 10, "uri": FILES, "number": IDS})
    if kind == "parquet":
        # Several row groups of several sizes.
        pq.write_table(table, path, row_group_size=3)
    elif kind == "folder":
        path.mkdir()
        pq.write_table(table[:7], path / "a.parquet", row_group_size=2)
        pq.write_table(table[7:], path / "b.parquet")
        (path / "_journal").write_text("not read")
    elif kind == "csv":
        rows = [f'x,"{file}",{number}' for file, number in zip(FILES, IDS, strict=True)]
        path.write_text("\n".join(["note,uri,number", *rows, "", ""]), encoding="utf-8-sig")
    else:
        path.write_text("\n".join([*FILES[:5], "", *FILES[5:], ""]))
    return path


@pytest.mark.parametrize("start", [0, 1, 3, 6, 8, 10])
@pytest.mark.parametrize("kind", ["parquet", "folder", "csv", "txt"])
def test_entries_from_any_row_on(tmp_path: Path, kind: str, start: int) -> None:
    manifest = Manifest(write(tmp_path, kind))
    assert list(manifest.entries(start)) == [Entry(i, FILES[i]) for i in range(start, 10)]
    if kind != "txt":
        named = Manifest(manifest.path, "uri", "number")
        assert list(named.entries(start)) == [Entry(IDS[i], FILES[i]) for i in range(start, 10)]


@pytest.mark.parametrize(("kind", "count"), [("parquet", 10), ("folder", 10), ("csv", None), ("txt", None)])
def test_number_of_pictures_where_it_is_told(tmp_path: Path, kind: str, count: int | None) -> None:
    assert Manifest(write(tmp_path, kind)).count() == count


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_columns_that_are_not_there(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind)
    with pytest.raises(ConfigError, match="no column 'picture', but note, uri, number; name it: --column"):
        next(Manifest(path, "picture").entries())
    with pytest.raises(ConfigError, match="no column key, but"):
        next(Manifest(path, "uri", "key").entries())
    with pytest.raises(ConfigError, match=r"row 0 of .* has the id 'x'; ids are whole numbers"):
        next(Manifest(path, "uri", "note").entries())


def test_columns_by_their_usual_names(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("size,path\n3,a.jpg\n")
    assert list(Manifest(tmp_path / "m.csv").entries()) == [Entry(0, "a.jpg")]


def test_rows_without_an_address_keep_their_place(tmp_path: Path) -> None:
    pq.write_table(pa.table({"uri": ["a.jpg", None, "c.jpg"]}), tmp_path / "m.parquet")
    assert [entry.file for entry in Manifest(tmp_path / "m.parquet").entries()] == ["a.jpg", "", "c.jpg"]
    (tmp_path / "m.csv").write_text("n,uri\n1,a.jpg\n2\n3,c.jpg\n")
    assert [entry.file for entry in Manifest(tmp_path / "m.csv").entries()] == ["a.jpg", "", "c.jpg"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("missing.csv", {}, "does not exist"),
        ("list.txt", {"column": "uri"}, "is a list without columns"),
        ("empty", {}, r"no \.parquet files"),
    ],
)
def test_what_is_no_manifest(tmp_path: Path, name: str, options: dict[str, Any], message: str) -> None:
    (tmp_path / "list.txt").write_text("a.jpg\n")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=message):
        list(Manifest(tmp_path / name, **options).entries())


def test_the_digest_is_of_every_byte(tmp_path: Path) -> None:
    path = write(tmp_path, "folder")
    first = Manifest(path).digest()
    assert Manifest(path).digest() == first
    pq.write_table(pa.table({"uri": ["other.jpg"]}), path / "b.parquet")
    assert Manifest(path).digest() != first
