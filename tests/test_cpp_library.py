"""The C++ libraries as another project sees them: built, installed, found by CMake, run.

Needs a C++ compiler; without one these tests fail, as the package itself could not be built either.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pybind11
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "examples" / "pictures" / "images" / "pedestrians.jpg"
# The environment's own tools before the system's; CMake itself looks in PATH only.
TOOLS = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
PYTHON_OF_VENV = Path("Scripts/python.exe" if os.name == "nt" else "bin/python")
# The second is the first in Latin-1, which Linux alone takes for a name.
FOLDERS = [
    pytest.param("josé", id="utf-8"),
    pytest.param(
        os.fsdecode(b"jos\xe9"), id="latin-1", marks=pytest.mark.skipif(sys.platform != "linux", reason="not a name")
    ),
]


def _try(*command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = os.environ | {"PATH": TOOLS} | environment
    words = [str(word) for word in command]
    return subprocess.run(words, env=variables, capture_output=True, text=True, check=False)


def _run(*command: object, **environment: str) -> str:
    """What a command prints; its whole output is in the failure otherwise."""
    done = _try(*command, **environment)
    assert done.returncode == 0, f"{done.args}\n{done.stdout}{done.stderr}"
    return done.stdout


def _configure(source: Path, build: Path, *options: str) -> subprocess.CompletedProcess[str]:
    generator = ["-G", "Ninja"] if shutil.which("ninja", path=TOOLS) else []
    return _try("cmake", "-S", source, "-B", build, *generator, *options)


def _build(source: Path, build: Path, *options: str) -> Path:
    done = _configure(source, build, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    _run("cmake", "--build", build, "--parallel", os.cpu_count())
    return build


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build folder with both libraries, the tests and the examples."""
    python = [f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11.get_cmake_dir()}"]
    return _build(ROOT, tmp_path_factory.mktemp("build"), "-DCROWD_COUNTER=ON", "-DCROWD_TESTS=ON", *python)


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    prefix = tmp_path_factory.mktemp("prefix")
    _run("cmake", "--install", built, "--prefix", prefix)
    return prefix


@pytest.fixture(scope="module")
def examples(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples, built from a copy of their folder: all they know of the library is where it is installed."""
    folder = tmp_path_factory.mktemp("examples")
    source = shutil.copytree(ROOT / "csrc" / "examples", folder / "source")
    return _build(source, folder / "build", f"-DCMAKE_PREFIX_PATH={installed}")


@pytest.fixture(scope="module")
def empty_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment without the engine."""
    folder = tmp_path_factory.mktemp("venv")
    _run(sys.executable, "-m", "venv", "--without-pip", folder)
    return folder


def test_the_libraries_own_tests(built: Path) -> None:
    listed = _run("ctest", "--test-dir", built, "--output-on-failure")
    assert {"kernels", "count_picture", "counter", "host"} <= set(re.findall(r"Test +#\d+: (\w+)", listed))


def test_an_installed_counter_counts_as_python_does(examples: Path) -> None:
    compare = ROOT / "csrc" / "tests" / "compare_with_python.py"
    _run(sys.executable, compare, examples / "count_picture", PICTURE)


def test_errors_reach_the_program(examples: Path) -> None:
    done = _try(examples / "count_picture", "no-such-picture.jpg", sys.executable)
    assert done.returncode == 1
    assert done.stderr.startswith("ImageError: 'no-such-picture.jpg' does not exist")


@pytest.mark.skipif(sys.platform != "linux", reason="file names are any bytes there")
def test_file_names_may_be_any_bytes(examples: Path, tmp_path: Path) -> None:
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    Path(folder).mkdir()
    shutil.copy(PICTURE, folder)
    program = os.fsencode(examples / "count_picture")
    for name, status in ((PICTURE.name, 0), ("missing.jpg", 1)):
        arguments = [program, os.fsencode(f"{folder}/{name}"), os.fsencode(sys.executable)]
        done = subprocess.run(arguments, capture_output=True, check=False)
        assert done.returncode == status, done.stderr
    assert done.stderr.startswith(b"ImageError: ")
    assert b"caf\\udce9/missing.jpg" in done.stderr or b"caf\xe9/missing.jpg" in done.stderr


@pytest.mark.parametrize("folder", FOLDERS)
def test_environments_may_lie_anywhere(folder: str, examples: Path, empty_environment: Path, tmp_path: Path) -> None:
    venv = shutil.copytree(empty_environment, tmp_path / folder, symlinks=True)
    for arguments, active in (([venv / PYTHON_OF_VENV], "/not/looked/at"), ([], str(venv))):
        done = _try(examples / "count_picture", PICTURE, *arguments, PYTHONPATH="", VIRTUAL_ENV=active)
        assert done.returncode == 1
        assert done.stderr.startswith("ModuleNotFoundError: crowd-engine is not installed for Python")
        assert folder.encode(errors="backslashreplace").decode() in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="file names are wide text there")
@pytest.mark.parametrize("folder", FOLDERS)
def test_a_second_counter_finds_the_first_ones_environment(
    folder: str, built: Path, empty_environment: Path, tmp_path: Path
) -> None:
    """The library's own test, which makes several, in an environment that borrows the packages of this one."""
    venv = shutil.copytree(empty_environment, tmp_path / folder, symlinks=True)
    (packages,) = venv.glob("lib/python*/site-packages")
    # Not by PYTHONPATH: where the engine is installed as editable, a .pth file says where it is.
    borrowed = [path for path in sys.path if path.endswith("-packages")]
    (packages / "borrowed.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in borrowed))
    picture = tmp_path / "picture.ppm"
    Image.open(PICTURE).crop((300, 100, 428, 228)).save(picture)
    program = built / "csrc" / "tests" / "counter_test"
    _run(program, picture, venv / PYTHON_OF_VENV, PYTHONPATH="")


def test_the_named_or_active_environment_is_used(examples: Path, empty_environment: Path) -> None:
    python = empty_environment / PYTHON_OF_VENV
    named = _try(examples / "count_picture", PICTURE, python, PYTHONPATH="", VIRTUAL_ENV="/not/looked/at")
    active = _try(examples / "count_picture", PICTURE, PYTHONPATH="", VIRTUAL_ENV=str(empty_environment))
    for done in (named, active):
        assert done.returncode == 1
        assert done.stderr.startswith("ModuleNotFoundError: crowd-engine is not installed for Python")
        assert str(empty_environment) in done.stderr


def test_the_page_on_cpp_shows_a_project(installed: Path, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "cpp.md").read_text(encoding="utf-8")
    (cmake,) = re.findall(r"^```cmake\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    (code,) = re.findall(r"^```cpp\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    include, _, body = code.partition("\n\n")
    source = tmp_path / "source"
    source.mkdir()
    project = "cmake_minimum_required(VERSION 3.18)\nproject(page LANGUAGES CXX)\nadd_executable(app main.cpp)\n"
    (source / "CMakeLists.txt").write_text(project + cmake)
    body = body.replace("/opt/app/venv/bin/python", Path(sys.executable).as_posix())
    (source / "main.cpp").write_text(f"{include}\nint main() {{\n{body}\nreturn result.points.empty();\n}}\n")
    shutil.copy(PICTURE, tmp_path / "photo.jpg")
    app = _build(source, tmp_path / "build", f"-DCMAKE_PREFIX_PATH={installed}") / "app"
    done = subprocess.run([app], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_installed_kernels_need_no_python(examples: Path) -> None:
    # The heads that the example draws, in raster order; peaks are refined to a fraction of a cell.
    heads = np.array([[31.0, 8.0, 0.75], [10.5, 8.25, 1.0], [47.75, 30.5, 0.5]])
    found = np.array([row.split() for row in _run(examples / "find_heads").splitlines()], float)
    np.testing.assert_allclose(found, heads, atol=0.1)


def test_public_headers_are_plain(installed: Path) -> None:
    headers = sorted((installed / "include" / "crowd").glob("*.h"))
    assert {"counter.h", "find_peaks.h", "tensor_view.h"} <= {header.name for header in headers}
    for header in headers:
        text = header.read_text()
        assert "pybind" not in text
        assert "Python.h" not in text
        assert not re.search(r"^\s*#\s*(define|if)", text, re.MULTILINE), header


def test_the_kernels_are_configured_without_python(tmp_path: Path) -> None:
    done = _configure(ROOT, tmp_path, *(f"-DCMAKE_DISABLE_FIND_PACKAGE_{name}=ON" for name in ("Python", "pybind11")))
    assert done.returncode == 0, done.stderr


def test_a_missing_component_is_named(installed: Path, tmp_path: Path) -> None:
    # An installation of the kernels alone.
    shutil.copytree(installed / "lib" / "cmake", tmp_path / "lib" / "cmake")
    for file in tmp_path.rglob("crowd-counter*.cmake"):
        file.unlink()
    project = tmp_path / "project"
    project.mkdir()
    (project / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.18)\nproject(test LANGUAGES CXX)\n"
        "find_package(crowd REQUIRED COMPONENTS counter)\n"
    )
    done = _configure(project, project / "build", f"-DCMAKE_PREFIX_PATH={tmp_path}")
    assert done.returncode != 0
    assert "crowd is installed without its component counter" in " ".join(done.stderr.split())
