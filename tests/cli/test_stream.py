"""``crowd stream`` with a stand-in counter: what it passes on, writes and returns."""

from __future__ import annotations

import csv
import io
import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import av
import numpy as np
import pytest
from stand_in_stream import StandInCounter, StandInStream, crowd
from videos import numbered, write_video

from engine.cli import main
from engine.errors import SourceError
from engine.outputs.records import JsonLines
from engine.outputs.video import VideoWriter
from engine.stream.frame import FrameResult


def test_a_warning_is_said_when_it_begins_to_hold(capsys) -> None:
    assert crowd("match.mp4", numbers=(5, 5, 5, 4, 5)) == 0
    assert capsys.readouterr().err.count("it was dark") == 2


def test_a_line_for_each_frame_and_a_summary(capsys) -> None:
    assert crowd("match.mp4") == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "0.30 s: 3 people (3-3)",
        "0.50 s: 5 people (5-5), 1 frames left out",
        "0.40 s: 4 people (4-4)",
    ]
    assert "0.50 s: warning: it was dark" in err
    assert "3 frames counted, 2 left out because counting took longer" in err
    assert "at most 5 at 0.50 s" in err
    counter = StandInCounter.last
    assert (counter.source, counter.closed, counter.opened.closed) == ("match.mp4", True, True)
    # What was not asked for is left to the counter.
    assert list(counter.stream_options) == ["zones"]


def test_options_reach_the_counter(capsys) -> None:
    arguments = ["0", "--fps", 5, "--no-live", "--warm-start", "--timeout", 3, "--steps", 2, "--samples", 4, "--quiet"]
    assert crowd(*arguments) == 0
    counter = StandInCounter.last
    assert counter.source == 0
    options = counter.stream_options
    assert (options["fps"], options["live"], options["warm_start"], options["timeout"]) == (5, False, True, 3)
    assert (counter.options["steps"], counter.options["samples"]) == (2, 4)
    # Frames are of one size, so models made for it pay.
    assert counter.options["performance"] == "latency"
    assert capsys.readouterr() == ("", "")


def test_json_lines_and_csv(tmp_path, capsys) -> None:
    assert crowd("a.mp4", "--json", tmp_path / "a.jsonl", "--csv", "--limit", 2, "--alert", "total=4:3") == 0
    out, err = capsys.readouterr()
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [line["count"] for line in lines] == [3, 5]
    assert [line["alerts"] for line in lines] == [[], ["total"]]
    assert lines[1]["warnings"] == ["it was dark"]
    rows = list(csv.DictReader(out.splitlines()))
    assert [(row["index"], row["count"], row["dropped"]) for row in rows] == [("3", "3", "0"), ("5", "5", "1")]
    assert "0.50 s: total: alert on at 5 people" in err


def test_video_and_maps(tmp_path) -> None:
    assert crowd("a.mp4", "--save", tmp_path / "out.mkv", "--save-maps", tmp_path / "maps", "--quiet") == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["maps", "out.mkv"]
    assert sorted(p.name for p in (tmp_path / "maps").iterdir()) == [
        "frame-000003.npy",
        "frame-000004.npy",
        "frame-000005.npy",
    ]
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert len(list(container.decode(video=0))) == 3


def test_the_page_shows_the_newest_frame(capsys, monkeypatch) -> None:
    seen: list[dict[str, Any]] = []
    advance = StandInStream.__next__

    def look(stream: StandInStream) -> FrameResult:
        try:
            return advance(stream)
        except StopIteration:
            address = capsys.readouterr().err.split("showing it at ")[1].split()[0]
            with urllib.request.urlopen(address + "v1/streams") as answer:
                seen.extend(json.load(answer))
            raise

    monkeypatch.setattr(StandInStream, "__next__", look)
    assert crowd("rtsp://user:secret@camera/live", "--show", numbers=(3, 5)) == 0
    (stream,) = seen
    assert stream["status"]["count"] == 5
    assert stream["title"] == "rtsp://camera/live"
    assert "secret" not in json.dumps(stream)


def test_zones_lines_and_alerts_from_file_and_words(tmp_path) -> None:
    (tmp_path / "zones.json").write_text(json.dumps({"zones": {"a": [[0, 0], [9, 0], [9, 9]]}}))
    words = ["--zone", "b=0,0 9,0 9,9", "--line", "c=0%,50% 100%,50%", "--alert", "total=9"]
    assert crowd("a.mp4", "--zones", tmp_path / "zones.json", *words, numbers=()) == 0
    layout = StandInCounter.last.stream_options["zones"]
    assert (list(layout.zones), list(layout.lines), list(layout.alerts)) == (["a", "b"], ["c"], ["total"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--json", "--csv"], "cannot both go to stdout"),
        (["--limit", "0"], "--limit must be at least 1"),
        (["--save", "out.avi"], "end it in .mp4"),
        (["--csv-bom", "--json"], "--csv-bom needs --csv, and changes nothing without it"),
        (["--append", "--save", "out.mp4"], "--append needs --json or --csv, and changes nothing without it"),
        (["--zone", "a"], "expected NAME="),
        (["--zone", "a=0,0 1,0 1,1", "--zone", "a=0,0 1,0 1,1"], "is given twice"),
        (["--alert", "total=5", "--alert", "total=9:8"], "there are two alerts for 'total'; give one"),
        (["--alert", "gate=3"], "no such zone"),
        (["--json", "photo.jpg"], "photo.jpg"),
        (["--json", "same", "--csv", "./same"], "--json and --csv would both write to ./same"),
        (["--save", "same.mp4", "--csv", "same.mp4"], "--csv and --save would both write to same.mp4"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_counted(
    arguments, words, capsys, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert crowd("a.mp4", *arguments) == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--save", "--csv", "--json"])
def test_a_recording_is_not_overwritten_by_its_counts(option, tmp_path, capsys) -> None:
    path = write_video(tmp_path / "a.mp4", [numbered(0)] * 3)
    (tmp_path / "link.mp4").symlink_to(path)
    before = path.read_bytes()
    for name in ("a.mp4", "link.mp4"):
        assert crowd(path, option, tmp_path / name) == 2
        assert "which is an input; write to another file" in capsys.readouterr().err
        assert path.read_bytes() == before


def test_a_source_that_cannot_be_opened_leaves_the_files_of_an_earlier_run_alone(tmp_path, capsys) -> None:
    for name in ("a.csv", "a.jsonl"):
        (tmp_path / name).write_text("of yesterday")
    outputs = ["--csv", tmp_path / "a.csv", "--json", tmp_path / "a.jsonl"]
    words = ["stream", tmp_path / "missing.mp4", *outputs, "--device", "cpu"]
    assert main([str(word) for word in words]) == 1
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == dict.fromkeys(["a.csv", "a.jsonl"], "of yesterday")


def test_many_outputs_may_go_to_the_same_device() -> None:
    assert crowd("a.mp4", "--csv", "/dev/null", "--json", "/dev/null", "--quiet") == 0


def test_what_the_terminal_cannot_show_is_escaped_there_alone(tmp_path, monkeypatch) -> None:
    shown = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(shown, encoding="cp1252"))
    zone = ["--zone", "\u5317\u95e8=0,0 9,0 9,9"]
    assert crowd("a.mp4", "--csv", *zone, numbers=()) == 0
    sys.stdout.flush()
    assert b"zone.\\u5317\\u95e8" in shown.getvalue()
    assert crowd("a.mp4", "--csv", tmp_path / "a.csv", *zone, numbers=()) == 0
    assert "zone.\u5317\u95e8," in (tmp_path / "a.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("end", "status", "words"),
    [(SourceError("the camera is gone"), 1, "the camera is gone"), (KeyboardInterrupt(), 130, "interrupted")],
    ids=["failure", "ctrl-c"],
)
def test_what_was_written_before_the_end_is_complete(end, status, words, tmp_path, capsys) -> None:
    outputs = ["--save", tmp_path / "out.mp4", "--json", tmp_path / "out.jsonl"]
    assert crowd("rtsp://camera/", *outputs, end=end) == status
    assert words in capsys.readouterr().err
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert len(list(container.decode(video=0))) == 3
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 3
    assert StandInCounter.last.closed


def test_a_real_video_is_counted(tmp_path, capsys) -> None:
    pictures = [np.full((64, 64, 3), 8 * i, np.uint8) for i in range(4)]
    path = write_video(tmp_path / "a.mp4", pictures, rate=10)
    assert main(["stream", str(path), "--fps", "5", "--steps", "1", "--device", "cpu"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in out] == ["0.00 s", "0.20 s"]
    assert main(["stream", str(tmp_path / "missing.mp4")]) == 1
    assert "does not exist" in capsys.readouterr().err


def fail_from_the_third(write: Callable[..., None], error: type[Exception]) -> Callable[..., None]:
    calls = []

    def failing(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) >= 3:
            raise error
        write(*arguments)

    return failing


def test_a_reader_that_goes_away_spoils_no_saved_video(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(JsonLines, "write", fail_from_the_third(JsonLines.write, BrokenPipeError))
    assert crowd("rtsp://camera/", "--save", tmp_path / "out.mp4", "--json", numbers=range(9)) == 141
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert len(list(container.decode(video=0))) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


def test_a_video_whose_end_cannot_be_written_leaves_none(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(VideoWriter, "_encode", fail_from_the_third(VideoWriter._encode, OSError))
    assert crowd("rtsp://camera/", "--save", tmp_path / "out.mp4", numbers=range(9)) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143)],
)
@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is no signal there")
def test_ctrl_c_and_termination_end_a_real_process_with_whole_outputs(number, status, tmp_path) -> None:
    path = write_video(tmp_path / "a.mp4", [numbered(0)] * 800)
    outputs = ["--save", tmp_path / "out.mp4", "--json", tmp_path / "out.jsonl"]
    words = [str(word) for word in ("stream", path, *outputs, "--steps", 1, "--device", "cpu")]
    program = f"import sys; sys.argv = ['crowd', *{words!r}]; from engine import cli; cli.run()"
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    # Not before it counts.
    assert process.stdout.readline().startswith("0.00 s: ")
    process.send_signal(number)
    out, err = process.communicate()
    assert process.returncode == status, err
    assert "Traceback" not in err
    assert "interrupted" in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "out.jsonl", "out.mp4"]
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    with av.open(str(tmp_path / "out.mp4")) as container:
        saved = len(list(container.decode(video=0)))
    # The frame in hand may have reached some outputs and not others.
    assert 0 <= len(lines) - saved <= 1
    assert 0 < len(out.splitlines()) + 1 <= len(lines) < 800


def test_lines_of_live_sources_begin_with_the_time_of_day(monkeypatch, capsys) -> None:
    original, time = StandInStream.__next__, "2026-11-28T09:05:00.000Z"
    monkeypatch.setattr(StandInStream, "__next__", lambda self: replace(original(self), time=time))
    assert crowd("0", "--alert", "total=5:4") == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == f"{time} 0.30 s: 3 people (3-3)"
    assert f"crowd: {time} 0.50 s: total: alert on at 5 people" in err.splitlines()
