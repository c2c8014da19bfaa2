"""Dockerfile, systemd unit and workflow: what they name is there, and their commands can be typed.

No container is built here; the unit's own words are checked by systemd, where it is installed.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from engine.cli.command import build_parser

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
UNIT = ROOT / "examples" / "crowd.service"
WORKFLOW = ROOT / ".github" / "workflows" / "wheels.yml"


def instructions() -> list[tuple[str, str]]:
    """Of the Dockerfile: keyword and the rest, of which there may be many lines."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(keyword, " ".join(rest)) for keyword, *rest in (line.split() for line in lines if line)]


def stage(name: str) -> list[str]:
    """Rests of the instructions of that keyword in the last stage, which is the one that runs."""
    found = instructions()
    last = max(number for number, (keyword, _) in enumerate(found) if keyword == "FROM")
    return [rest for keyword, rest in found[last:] if keyword == name]


def words_of(line: str) -> list[str]:
    return [str(word) for word in json.loads(line)]


def test_two_stages_and_the_second_has_no_compiler_and_no_root() -> None:
    found = instructions()
    builder, runs = [rest for keyword, rest in found if keyword == "FROM"]
    assert builder == f"{runs} AS builder"
    minor = int(re.fullmatch(r"python:3\.(\d+)-slim", runs)[1])  # type: ignore[index]
    assert f"cp3{minor}-*" in PROJECT["tool"]["cibuildwheel"]["build"].split()
    assert "apt-get" not in " ".join(stage("RUN"))
    assert "from=builder" in stage("RUN")[0]
    (user,) = stage("USER")
    assert int(user) > 0
    # Nothing is written as another user, once that is set.
    keywords = [keyword for keyword, _ in found]
    assert "RUN" not in keywords[keywords.index("USER") :]


def test_the_context_has_what_the_wheel_is_made_of() -> None:
    rules = [x for x in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if x and not x.startswith("#")]
    assert rules[0] == "*"
    kept = {rule[1:] for rule in rules if rule.startswith("!")}
    needed = {*PROJECT["tool"]["scikit-build"]["wheel"]["force-include"], PROJECT["project"]["readme"]}
    needed |= {*PROJECT["project"]["license-files"], "CMakeLists.txt", "pyproject.toml", "cmake", "csrc"}
    assert kept == needed
    assert [name for name in kept if not (ROOT / name).exists()] == []


def test_the_extras_that_it_installs_are_there() -> None:
    extras = re.search(r"\.whl\)\[([a-z,]+)\]", " ".join(stage("RUN")))
    assert extras is not None
    assert {"serve", "video", "mqtt"} == {*extras[1].split(",")} <= PROJECT["project"]["optional-dependencies"].keys()


def test_its_command_serves_and_its_health_check_asks_there(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fastapi", reason="FastAPI comes with the serve extra")
    from engine.cli.serve import server_settings
    from engine.serve.app import create_app
    from engine.serve.server import AppServer
    from engine.serve.settings import ServeSettings

    (entry,), (command,), (health,) = stage("ENTRYPOINT"), stage("CMD"), stage("HEALTHCHECK")
    assert words_of(entry) == ["crowd"]
    options = build_parser().parse_args(words_of(command))
    monkeypatch.setenv("CROWD_TOKEN", "a token of enough letters")
    settings = server_settings(options)
    assert (settings.host, settings.token) == ("0.0.0.0", "a token of enough letters")
    assert stage("EXPOSE") == [str(settings.port)]

    python, *words = words_of(health.split(" CMD ")[1])
    assert python == "python"
    with AppServer(create_app(None), ServeSettings(port=0)) as server:
        port = server.url.rstrip("/").rpartition(":")[2]
        asked = [sys.executable, *(word.replace(f":{settings.port}/", f":{port}/") for word in words)]
        assert asked[1:] != words
        assert subprocess.run(asked, capture_output=True, check=False).returncode == 0
    gone = subprocess.run(asked, capture_output=True, check=False)
    assert (gone.returncode, b"refused" in gone.stderr) == (1, True)


def test_containers_in_the_documentation_can_be_started() -> None:
    page = (ROOT / "docs" / "serve.md").read_text("utf-8")
    found = re.findall(r"docker run ((?:--[a-z]+ \S+ )+)crowd(.*)$", page, re.MULTILINE)
    assert len(found) == page.count("docker run")
    for options, command in found:
        assert set(options.split()[::2]) <= {"--publish", "--env", "--volume"}
        assert options.split()[1].endswith(f":{stage('EXPOSE')[0]}")
        words = shlex.split(command) or words_of(*stage("CMD"))
        assert build_parser().parse_args(words).command == "serve"
    assert "docker build --tag crowd . &&" in page


def test_the_unit_serves() -> None:
    (line,) = re.findall(r"^ExecStart=(.*)$", UNIT.read_text("utf-8"), re.MULTILINE)
    program, *words = shlex.split(line)
    assert Path(program).name == "crowd"
    assert build_parser().parse_args(words).command == "serve"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    program = shutil.which("true")
    assert program is not None
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text("utf-8").replace("/opt/crowd/bin/crowd", program), "utf-8")
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_wheels_are_made_and_tried_for_each_python() -> None:
    settings = PROJECT["tool"]["cibuildwheel"]
    minors = [int(x) for x in re.findall(r"cp3(\d+)-\*", settings["build"])]
    assert minors[0] == int(PROJECT["project"]["requires-python"].removeprefix(">=3."))
    workflow = WORKFLOW.read_text("utf-8")
    assert f"python: {json.dumps([f'3.{minor}' for minor in minors])}" in workflow
    # On ARM the workflow tries what cibuildwheel does not.
    assert settings["test-skip"] == "*_aarch64"
    for command in settings["test-command"]:
        assert command.replace("{project}/", "") in workflow
        paths = re.findall(r"\{project\}/(\S+)", command)
        assert paths
        assert [path for path in paths if not (ROOT / path).exists()] == []
    assert " ".join(settings["test-requires"]) in workflow
