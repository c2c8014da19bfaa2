"""Manifests of each kind give the same entries, from any row on."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
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
    with pytest.raises(ConfigError, match=r"(row 0|line 2) of .* has the id 'x'; ids are whole numbers"):
        next(Manifest(path, "uri", "note").entries())


@pytest.mark.parametrize("kind", ["parquet", "folder", "csv", "txt"])
def test_a_manifest_without_pictures_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"manifest.{kind}"
    if kind in ("parquet", "folder"):
        path.mkdir()
        pq.write_table(pa.table({"uri": pa.array([], pa.string())}), path / "a.parquet")
        path = path / "a.parquet" if kind == "parquet" else path
    else:
        path.write_text("uri\n" if kind == "csv" else "\n\n")
    with pytest.raises(ConfigError, match=rf"manifest {re.escape(str(path))} lists no picture"):
        Manifest(path).check()


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


@pytest.mark.parametrize("kind", ["uint64", "string", "csv"])
@pytest.mark.parametrize(("number", "fits"), [(2**63 - 1, True), (2**63, False), (2**64 - 1, False)])
def test_ids_are_of_64_bits(tmp_path: Path, kind: str, number: int, fits: bool) -> None:
    path = tmp_path / ("m.csv" if kind == "csv" else "m.parquet")
    if kind == "csv":
        path.write_text(f'uri,n\n"a\nb.jpg",1\n\nc.jpg,{number}\n')
    else:
        numbers = [1, number] if kind == "uint64" else ["1", str(number)]
        pq.write_table(pa.table({"uri": ["a\nb.jpg", "c.jpg"], "n": pa.array(numbers, kind)}), path)
    manifest = Manifest(path, id="n")
    if fits:
        assert list(manifest.entries()) == [Entry(1, "a\nb.jpg"), Entry(number, "c.jpg")]
        return
    place = "line 5" if kind == "csv" else "row 1"
    with pytest.raises(
        ConfigError, match=rf"{place} of .*{path.name} has the id '{number}'; ids are .* from -2\^63 to"
    ):
        manifest.check()


def test_negative_ids_to_the_last(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(f"uri,n\na.jpg,{-(2**63)}\nb.jpg,{-(2**63) - 1}\n")
    entries = Manifest(tmp_path / "m.csv", id="n").entries()
    assert next(entries) == Entry(-(2**63), "a.jpg")
    with pytest.raises(ConfigError, match="line 3 of"):
        next(entries)


def test_an_error_in_a_folder_names_file_and_row(tmp_path: Path) -> None:
    for name, numbers in (("a", [1, 2]), ("b", [3, 2**63])):
        pq.write_table(pa.table({"uri": ["x", "y"], "n": pa.array(numbers, pa.uint64())}), tmp_path / f"{name}.parquet")
    for start in range(4):
        with pytest.raises(ConfigError, match=r"row 1 of .*b\.parquet has the id"):
            list(Manifest(tmp_path, id="n").entries(start))


@pytest.mark.parametrize("kind", ["parquet", "csv", "txt"])
def test_standard_input_is_no_entry(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"m.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table({"uri": ["a.jpg", "-"]}), path)
    else:
        path.write_text("uri\na.jpg\n-\n" if kind == "csv" else "a.jpg\n\n-\n")
    place = "row 1" if kind == "parquet" else "line 3"
    with pytest.raises(ConfigError, match=rf"{place} of .*m\.{kind} is -, standard input"):
        Manifest(path).check()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("uri\n" + "a" * 200_000, 2),
        ("n,uri\n1,a.jpg\n2,b.jpg\n3," + "a" * 200_000 + "\n", 4),
        # A quotation mark without another one, which takes in what comes behind.
        ('n,uri\n1,"a\n.jpg"\n2,"b.jpg\n' + "3,c.jpg\n" * 20_000, 4),
    ],
)
def test_what_is_no_csv_has_a_line(tmp_path: Path, text: str, line: int) -> None:
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(ConfigError, match=rf"line {line} of .*m\.csv cannot be read as CSV: field larger"):
        Manifest(tmp_path / "m.csv").check()


@pytest.mark.parametrize(
    ("kind", "values", "told"),
    [
        (pa.binary(), [b"pics/0.jpg"], "binary"),
        (pa.struct([("bytes", pa.binary()), ("path", pa.string())]), [{"path": "a.jpg"}], "struct<bytes: binary, path"),
        (pa.list_(pa.string()), [["a.jpg"]], "list<"),
        (pa.int64(), [7], "int64"),
        (pa.null(), [None], "null"),
    ],
)
def test_columns_that_have_no_text(tmp_path: Path, kind: pa.DataType, values: list[Any], told: str) -> None:
    pq.write_table(pa.table({"image": pa.array(values, kind)}), tmp_path / "m.parquet")
    with pytest.raises(ConfigError, match=rf"column 'image' of .*m\.parquet is of the type {told}.*expected strings"):
        Manifest(tmp_path / "m.parquet").check()


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_columns_of_text_of_every_kind(tmp_path: Path, kind: pa.DataType) -> None:
    column = pa.array(["a.jpg", "b.jpg", "a.jpg", None]).cast(kind)
    pq.write_table(pa.table({"image": column}), tmp_path / "m.parquet")
    assert [entry.file for entry in Manifest(tmp_path / "m.parquet").entries()] == ["a.jpg", "b.jpg", "a.jpg", ""]


def test_parquet_that_is_damaged_is_told(tmp_path: Path) -> None:
    path = write(tmp_path, "parquet")
    whole = path.read_bytes()
    for content in (b"", b"PAR1", whole[:-20], b"not Parquet at all"):
        path.write_bytes(content)
        for read in (Manifest(path).count, Manifest(path).check):
            with pytest.raises(ConfigError, match=r"manifest\.parquet cannot be read as Parquet"):
                read()
    # Damage within pages, which the end of the file does not tell.
    end = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    path.write_bytes(whole[:4] + b"\xff" * (end - 4) + whole[end:])
    assert Manifest(path).count() == 10
    with pytest.raises(ConfigError, match=r"manifest\.parquet cannot be read as Parquet"):
        Manifest(path).check()


def test_text_of_parquet_that_is_no_text_is_told(tmp_path: Path) -> None:
    data = pa.array([b"a.jpg", b"\xff\xfe.jpg"])
    strings = pa.Array.from_buffers(pa.string(), len(data), data.buffers())
    pq.write_table(pa.table({"uri": strings}), tmp_path / "m.parquet")
    with pytest.raises(ConfigError, match=r"m\.parquet cannot be read as Parquet: .*utf-8"):
        Manifest(tmp_path / "m.parquet").check()


def piped(path: Path, content: bytes, **options: Any) -> Manifest:
    with ThreadPoolExecutor() as pool:
        pool.submit(path.write_bytes, content)
        return Manifest(path, **options)


@pytest.mark.parametrize("kind", ["parquet", "csv", "txt"])
def test_a_pipe_is_read_again_and_again(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind)
    content, expected = path.read_bytes(), list(Manifest(path).entries())
    digest = Manifest(path).digest()
    path.unlink()
    os.mkfifo(path)
    manifest = piped(path, content)
    for start in (0, 4):
        assert manifest.digest() == digest
        assert list(manifest.entries(start)) == expected[start:]
    assert manifest.count() == (10 if kind == "parquet" else None)
    if kind != "txt":
        with pytest.raises(ConfigError, match=rf"(row 0|line 2) of {re.escape(str(path))} has the id 'x'"):
            piped(path, content, id="note").check()
    copy = manifest._copy
    assert copy is not None
    assert copy.exists()
    del manifest
    assert not copy.exists()


def test_devices_are_no_manifests() -> None:
    for device in ("/dev/zero", "/dev/null"):
        with pytest.raises(ConfigError, match="is a terminal or another device; expected a file, a folder or a pipe"):
            Manifest(Path(device))


def test_the_digest_is_of_every_byte(tmp_path: Path) -> None:
    path = write(tmp_path, "folder")
    first = Manifest(path).digest()
    assert Manifest(path).digest() == first
    pq.write_table(pa.table({"uri": ["other.jpg"]}), path / "b.parquet")
    assert Manifest(path).digest() != first
