"""The command line as a process of its own."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
from importlib import metadata
from types import ModuleType

import pytest
from reliability.processes import python, run, started
from stand_in_counter import StandInCounter

from engine import cli
from engine.cli import main


def test_eval_without_scipy_names_the_extra(tmp_path):
    program = "import sys; sys.modules['scipy'] = None; from engine.cli import main; sys.exit(main(['eval', '.']))"
    done = run(python("-c", program))
    assert done.returncode == 1
    assert "crowd-engine[eval]" in done.stderr
    assert "Traceback" not in done.stderr


def test_export_gets_its_arguments_as_they_are(monkeypatch):
    seen = []
    stand_in = ModuleType("engine.export.__main__")
    stand_in.run = seen.append
    monkeypatch.setitem(sys.modules, "engine.export.__main__", stand_in)
    assert main(["export", "--help", "best.pt", "--out", "x"]) == 0
    assert seen == [["--help", "best.pt", "--out", "x"]]


@pytest.mark.parametrize("command", ["export", "train"])
def test_commands_without_their_packages_name_the_extra(command):
    program = (
        "import sys; sys.modules['torch'] = sys.modules['onnx'] = None\n"
        f"from engine.cli import main; sys.exit(main(['{command}', '--anything']))"
    )
    done = run(python("-c", program))
    assert done.returncode == 1
    assert f"crowd-engine[{command}]" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["", "count", "stream", "eval", "bench", "doctor"])
def test_help_loads_no_runtime_and_has_an_example(command):
    arguments = [*command.split(), "--help"]
    program = (
        f"import sys\nfrom engine.cli import main\ntry: main({arguments})\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'openvino', 'numpy', 'scipy', 'PIL', 'tensorrt', 'triton'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = run(python("-c", program))
    assert done.returncode == 0, done.stderr
    assert "example:" in done.stdout


@pytest.mark.parametrize("words", ["train", "export", "export quantize"])
def test_help_of_the_commands_of_an_extra(words, capsys):
    """Their parsers stand beside what they need."""
    pytest.importorskip("torch", reason="PyTorch comes with the train extra")
    pytest.importorskip("onnx", reason="ONNX comes with the export extra")
    with pytest.raises(SystemExit) as stop:
        main([*words.split(), "--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    usage, description = printed.split("\n\n")[:2]
    assert usage.startswith(f"usage: crowd {words}")
    assert description.endswith(".")
    assert "None" not in printed
    if words != "export quantize":
        assert re.search(rf"examples?:\n  crowd {words} ", printed)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (1, "count picture.jpg --model missing"),
        (1, "export verify missing"),
        (1, "export cubins missing"),
        (2, "eval missing"),
        (2, "train missing"),
        (2, "export missing.pt bundle"),
    ],
)
def test_one_failure_has_one_status_whatever_the_command(status, words, tmp_path, monkeypatch, capsys):
    for needed in ("torch", "onnx", "triton"):
        pytest.importorskip(needed, reason="export needs its extra")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "picture.jpg").touch()
    assert main(words.split()) == status
    assert capsys.readouterr().err.startswith("crowd: ")


@pytest.mark.parametrize(
    ("status", "words"), [(1, "engine.training train missing"), (2, "engine.export verify missing")]
)
def test_the_modules_end_with_a_message(status, words, tmp_path):
    pytest.importorskip("torch", reason="PyTorch comes with the train extra")
    pytest.importorskip("onnx", reason="ONNX comes with the export extra")
    done = run(python("-m", *words.split()), cwd=tmp_path)
    assert done.returncode == status
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1


def test_version_is_printed(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("crowd ")


# A counter for the processes below: text out at once, then slow.
_SLOW = """
import sys, time
from types import SimpleNamespace
from engine import cli
class Slow:
    def __init__(self, **options): pass
    def close(self): pass
    def count(self, img):
        time.sleep(0.05)
        return SimpleNamespace(to_dict=lambda: {"count": 3, "interval": [2, 4], "warnings": []})
main = cli.main
cli.main = lambda: main(["count", sys.argv[1]], counter_factory=Slow)
cli.run()
"""


@pytest.fixture
def slow_process(tmp_path):
    for number in range(400):
        (tmp_path / f"{number:03d}.jpg").touch()
    with started(python("-c", _SLOW, tmp_path)) as process:
        yield process


def test_a_closed_pipe_ends_quietly(slow_process):
    assert slow_process.stdout.readline().endswith(b"000.jpg: 3 people (2-4)\n")
    slow_process.stdout.close()
    assert slow_process.stderr.read() == b""
    assert slow_process.wait() == 141


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_termination_end_with_their_status_and_one_line(number, status, slow_process):
    slow_process.stdout.readline()
    slow_process.send_signal(number)
    assert slow_process.stderr.read() == b"crowd: interrupted\n"
    assert slow_process.wait() == status


def test_ctrl_c_after_the_command_has_ended_is_quiet_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the moment before the signal is ignored."""
    ignored = []

    def late(number: int, handler: object) -> None:
        if handler is not signal.SIG_IGN:
            return
        ignored.append(number)
        if len(ignored) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(cli, "main", lambda: 0)
    monkeypatch.setattr(signal, "signal", late)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    with pytest.raises(SystemExit) as stop:
        cli.run()
    assert stop.value.code == 130
    assert ignored == [signal.SIGINT, signal.SIGINT, signal.SIGTERM]


def test_an_engine_of_another_name_on_the_path_is_not_taken(tmp_path):
    """As one's own engine.py in the working folder, with that folder in PYTHONPATH."""
    (tmp_path / "engine.py").write_text("raise SystemExit('the wrong one')")
    program = "import sys; sys.argv = ['crowd', '--version']; import crowd_engine; crowd_engine.run()"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("crowd ")
    (script,) = metadata.entry_points(group="console_scripts", name="crowd")
    assert script.value == "crowd_engine:run"


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ([], ["warning", "error"]),
        (["--quiet"], ["error"]),
        (["--log-level", "debug"], ["debug", "info", "warning", "error"]),
        (["--quiet", "--log-level", "info"], ["info", "warning", "error"]),
    ],
)
def test_what_the_engine_logs_is_shown_as_it_was_asked_for(options, shown, tmp_path, capsys):
    class Chatty(StandInCounter):
        def count(self, img, **_):
            for level in ("debug", "info", "warning", "error"):
                logging.getLogger("engine").log(getattr(logging, level.upper()), "rtsp://me:secret@door")
            return super().count(img)

    (tmp_path / "a.jpg").write_bytes(b"x")
    assert main(["count", str(tmp_path / "a.jpg"), *options], Chatty) == 0
    assert capsys.readouterr().err.splitlines() == [f"crowd: {level}: rtsp://door" for level in shown]
    assert logging.getLogger("engine").handlers == []
