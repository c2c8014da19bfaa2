"""What README.md and docs/ show is there and runs: Python, zones.json, commands, names, links."""

from __future__ import annotations

import argparse
import inspect
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import engine
from engine import errors
from engine.cli.command import build_parser
from engine.evaluation.evaluate import Row
from engine.stream.frame import FrameResult
from engine.watch.config import MqttSettings, load_config
from engine.zones.inputs import as_layout

ROOT = Path(__file__).parent.parent
PAGES = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")))}
ALL = "\n\n".join(PAGES.values())
PICTURE = ROOT / "examples" / "pictures" / "images" / "pedestrians.jpg"
# Words of ``crowd export`` that are commands of their own, with the parser of each.
EXPORTS = {"verify": "build_verify_parser", "quantize": "build_quantize_parser", "cubins": "build_cubins_parser"}


def blocks(text: str, language: str) -> list[str]:
    """Contents of the fenced blocks of a language, such as "python" or "python no-run"; "" is those without one."""
    found = re.findall(r"^```([^\n]*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [content for kind, content in found if kind == language]


def spans(text: str) -> list[str]:
    """Code within running text; a span may go over the end of a line."""
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", outside)]


def commands(text: str) -> list[list[str]]:
    """The words of each ``crowd ...`` that can be typed as it stands."""
    lines = [line for block in (*blocks(text, ""), *blocks(text, "sh")) for line in block.splitlines()]
    # Two words name a command, and need not be all of it.
    lines += [span for span in spans(text) if span.startswith("crowd ") and len(span.split()) > 2]
    return [words for line in lines if "crowd " in line for words in _split(line) if words[:1] == ["crowd"]]


def _split(line: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&;|")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if set(word) <= {"&", ";", "|"}:
            yield words
            words = []
        else:
            words.append(word)
    yield words


def parser_of(words: list[str]) -> tuple[argparse.ArgumentParser, list[str]]:
    """The parser of a command, and the words that it gets."""
    if words[0] == "train":
        pytest.importorskip("torch", reason="PyTorch comes with the train extra")
        training = pytest.importorskip("engine.training.__main__")
        return training.build_parser(prog="crowd"), words
    if words[0] == "export":
        pytest.importorskip("torch", reason="PyTorch comes with the export extra")
        pytest.importorskip("onnx", reason="ONNX comes with the export extra")
        from engine.export import __main__ as export

        if words[1] in EXPORTS:
            return getattr(export, EXPORTS[words[1]])(), words[2:]
        return export.build_parser(), words[1:]
    return build_parser(), words


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    """Every option of a parser and of its commands, in full: argparse also takes their beginnings."""
    found = set(parser._option_string_actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found |= set().union(*map(options_of, action.choices.values()))
    return found


TYPED = commands(ALL)


@pytest.mark.parametrize("words", TYPED, ids=" ".join)
def test_every_command_can_be_typed(words: list[str]) -> None:
    parser, rest = parser_of(words[1:])
    parser.parse_args(rest)
    assert {word for word in rest if word.startswith("--")} <= options_of(parser)


def test_all_commands_were_found() -> None:
    (parsers,) = [x for x in build_parser()._actions if isinstance(x, argparse._SubParsersAction)]
    assert {words[1] for words in TYPED} == parsers.choices.keys()
    assert {words[2] for words in TYPED if words[1] == "export"} >= {"cubins", "quantize", "verify"}


def test_a_misspelt_option_is_noticed() -> None:
    (words,) = commands("```\ncrowd count photo.jpg --stepps 3  # --steps\n```")
    assert words == ["crowd", "count", "photo.jpg", "--stepps", "3"]
    with pytest.raises(SystemExit):
        test_every_command_can_be_typed(words)
    with pytest.raises(AssertionError):
        test_every_command_can_be_typed(["crowd", "count", "photo.jpg", "--perf", "latency"])


def test_options_that_are_named_in_the_text_are_there() -> None:
    entries = [["count"], ["train"], ["export", ""], *(["export", name] for name in EXPORTS)]
    known = set().union(*(options_of(parser_of(words)[0]) for words in entries))
    # Reliability is checked by pytest, whose options those are.
    texts = [text for name, text in PAGES.items() if name != "reliability.md"]
    named = [span.split()[0] for text in texts for span in spans(text) if span.startswith("--")]
    assert named
    assert set(named) <= known


@pytest.mark.parametrize("page", [name for name in PAGES if blocks(PAGES[name], "python")])
def test_python_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One block goes on where the one before ended, on small pictures."""
    pytest.importorskip("av", reason="PyAV comes with the video extra")
    from videos import write_video

    picture = Image.open(PICTURE).crop((300, 100, 428, 228))
    for name in ("photo.jpg", "a.jpg", "b.jpg"):
        picture.save(tmp_path / name)
    write_video(tmp_path / "match.mp4", [np.asarray(picture)] * 2)
    (tmp_path / "zones.json").write_text(blocks(PAGES["zones.md"], "json")[0])
    monkeypatch.chdir(tmp_path)
    found: dict[str, object] = {}
    for source in blocks(PAGES[page], "python"):
        exec(compile(source, page, "exec"), found)
    assert all(isinstance(found["frame"], FrameResult) for name in ("video.md", "zones.md") if name == page)
    if page == "python.md":
        assert (tmp_path / "overlay.png").is_file()
        assert len(found["results"]) == 2  # type: ignore[arg-type]


def test_python_that_cannot_run_here_is_python() -> None:
    for source in blocks(ALL, "python no-run"):
        compile(source, "docs", "exec")


def test_arguments_that_are_named_are_there() -> None:
    text = "\n\n".join(PAGES[name] for name in ("README.md", "python.md", "video.md", "zones.md"))
    functions = (engine.CrowdCounter, *(getattr(engine.CrowdCounter, x) for x in ("count", "count_batch", "stream")))
    known = {name for function in functions for name in inspect.signature(function).parameters}
    named = {match[1] for span in spans(text) if (match := re.match(r"([a-z_]+)=", span))}
    named |= {word for span in spans(text) for word in re.findall(r"(?<=[(,])\s*([a-z_]+)=", span)}
    assert {"performance", "zones", "fps", "steps"} <= named
    assert named <= known


def test_fields_and_methods_that_are_named_are_there() -> None:
    text = PAGES["python.md"]
    table = text.split("| field | what it is |")[1].split("\n\n")[0]
    fields = {name for row in table.splitlines() if row for name in spans(row.split("|")[1])} - {""}
    assert "zone_intervals" in fields
    methods = {span.removesuffix("()") for words in spans(text) for span in words.split("/") if span.endswith("()")}
    assert "to_supervision" in methods
    assert [name for name in fields | methods if not _has(engine.CountResult, name)] == []


def _has(kind: type, name: str) -> bool:
    return hasattr(kind, name) or name in getattr(kind, "__dataclass_fields__", {})


def test_errors_that_are_named_are_there() -> None:
    named = {span for span in spans(PAGES["python.md"]) if re.fullmatch(r"[A-Za-z]+Error", span)}
    assert named == {name for name, kind in vars(errors).items() if inspect.isclass(kind)}


def test_the_zones_file_is_one(tmp_path: Path) -> None:
    (text,) = blocks(PAGES["zones.md"], "json")
    (tmp_path / "zones.json").write_text(text)
    layout = as_layout(tmp_path / "zones.json")
    assert [*layout.zones, *layout.lines, *layout.alerts] == ["gate", "door", "gate"]
    # Without their unit, the polygons would be in pixels.
    with pytest.raises(errors.ConfigError, match=r'from_polygons\({...}, unit="fractions"\)'):
        as_layout(json.loads(text)["zones"])


def test_the_cameras_file_is_one(tmp_path: Path) -> None:
    (text,) = blocks(PAGES["watch.md"], "toml")
    (tmp_path / "cameras.toml").write_text(text)
    shape = {"zones": {"door": [[0, 0], [9, 0], [9, 9]]}}
    (tmp_path / "gate.json").write_text(json.dumps(shape))
    config = load_config(tmp_path / "cameras.toml", {"GATE_PASSWORD": "a", "MQTT_PASSWORD": "b"})
    assert [camera.name for camera in config.cameras] == ["gate", "hall"]
    named = {*re.findall(r"^(\w+) =", text, re.MULTILINE), *(span.split()[0] for span in spans(PAGES["watch.md"]))}
    assert {field.name for field in fields(MqttSettings)} <= named


def test_the_keys_of_json_are_named() -> None:
    zero = np.zeros((1, 1), np.float32)
    nobody = engine.CountResult(0, np.zeros((0, 2)), np.zeros(0), zero, zero, zero, interval=(0, 0), image_size=(2, 2))
    keys = {*FrameResult(0, 0.0, 0, nobody).to_dict(), *Row.__dataclass_fields__}
    listed = PAGES["cli.md"].split("`--json` writes")[1].split("\n\n- ")[1].split("\n\n")[0]
    assert keys - set(spans(listed)) == set()


def test_extras_that_are_named_are_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {x for names in re.findall(r"(?:\"\.|crowd-engine)\[([a-z,-]+)\]", ALL) for x in names.split(",")}
    assert "video" in named
    assert named <= project["optional-dependencies"].keys()


def test_the_readme_is_an_invitation() -> None:
    readme = PAGES["README.md"]
    assert len(readme.splitlines()) <= 130
    # `.ci/run` runs its first two commands.
    user, developer = blocks(readme, "sh")[:2]
    assert user.startswith("pip install . && crowd count ")
    assert developer == 'pip install ".[dev]" && pytest\n'
    assert {f"docs/{name}" for name in PAGES} - {"docs/README.md"} <= set(links(readme))


def links(text: str) -> list[str]:
    """Targets of the links and pictures of a page, but for those on the web."""
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", outside) if not target.startswith("http")]


def anchors(text: str) -> set[str]:
    """What GitHub makes of the headings: lower case, without punctuation, a hyphen for each space."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / "docs" / page if (ROOT / "docs" / page).is_file() else ROOT / page
    for target in links(path.read_text(encoding="utf-8")):
        name, _, anchor = target.partition("#")
        there = (path.parent / name).resolve() if name else path
        assert there.exists(), f"{page} links {target}"
        assert not anchor or anchor in anchors(there.read_text(encoding="utf-8")), f"{page} links {target}"
