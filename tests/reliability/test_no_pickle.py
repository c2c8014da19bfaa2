"""No pickle is loaded, and no text is run as code: looked for in the sources, and made impossible while counting."""

from __future__ import annotations

import ast
import io
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from reliability.processes import TESTS, describe, python, run
from reliability.small_bundle import write_small_bundle

import engine
from engine.bundle.bundle import WEIGHTS_FILE, add_files
from engine.errors import BundleError, ConfigError, ImageError
from engine.export.checkpoint import load_checkpoint
from engine.image.load import load_image
from engine.training.start import start_network

ROOT = TESTS.parent
PICTURE = ROOT / "examples" / "pictures" / "images" / "pedestrians.jpg"
SOURCES = sorted(p for folder in ("engine", "kernels", "export", "training") for p in (ROOT / folder).rglob("*.py"))
_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml"}
_CALLS = {"eval", "exec", "compile", "__import__"}


def _offences(source: str) -> Iterator[str]:
    for part in ast.walk(ast.parse(source)):
        if isinstance(part, ast.Import | ast.ImportFrom):
            names = [part.module or ""] if isinstance(part, ast.ImportFrom) else [x.name for x in part.names]
            yield from (f"imports {name}" for name in names if name.partition(".")[0] in _MODULES)
        if not isinstance(part, ast.Call):
            continue
        arguments = {x.arg: x.value for x in part.keywords}
        called = ast.unparse(part.func)
        if called in _CALLS or called in ("torch.hub.load", "os.system", "os.popen"):
            yield f"calls {called}"
        if called.endswith("torch.load") and not _is(arguments.get("weights_only"), True):
            yield "calls torch.load without weights_only=True"
        if called.endswith(("np.load", "numpy.load")) and not _is(arguments.get("allow_pickle"), False):
            yield "calls numpy.load without allow_pickle=False"
        if _is(arguments.get("shell"), True):
            yield f"calls {called} with a shell"


def _is(value: ast.expr | None, constant: bool) -> bool:
    return isinstance(value, ast.Constant) and value.value is constant


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_sources_load_no_pickle(path: Path) -> None:
    assert list(_offences(path.read_text())) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from pickle import loads", "import joblib.memory", "torch.load(p)", "eval(x)",
        "torch.load(p, weights_only=False)", "np.load(p)", "numpy.load(p, allow_pickle=True)", "run(c, shell=True)",
    ],
)  # fmt: skip
def test_the_search_finds(source: str) -> None:
    assert list(_offences(source))


# Unpickling anything at all is an error from here on, in Python and in C.
_FORBID = """
import sys, pickle, _pickle
def forbidden(*_, **__):
    raise AssertionError("a pickle was loaded")
pickle.load = pickle.loads = _pickle.load = _pickle.loads = forbidden
pickle.Unpickler = _pickle.Unpickler = type("Unpickler", (), {"__init__": forbidden})
sys.addaudithook(lambda event, _: forbidden() if event == "pickle.find_class" else None)
"""


def test_counting_loads_no_pickle() -> None:
    program = (
        "import engine\n"
        "with engine.CrowdCounter(cpu_threads=1) as counter:\n"
        "    for source in (sys.argv[1], open(sys.argv[1], 'rb').read()):\n"
        "        counter.count(source).to_json()\n"
    )
    done = run(python("-c", _FORBID + program, PICTURE))
    assert done.returncode == 0, describe(done)


class Payload:
    """What a hostile checkpoint holds: unpickling it runs a command of its maker."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self) -> tuple:
        return Path.touch, (self.trace,)


def test_hostile_checkpoints_run_nothing(tmp_path: Path) -> None:
    """Written as a checkpoint, and given as a picture too."""
    trace = tmp_path / "ran"
    checkpoint = tmp_path / "best.pt"
    torch.save({"config": {"model": {}}, "average": Payload(trace)}, checkpoint)
    pickle.loads(pickle.dumps(Payload(trace)))
    assert trace.exists(), "the payload does nothing, so this test would show nothing"
    trace.unlink()
    with pytest.raises(ConfigError, match="not a checkpoint"):
        load_checkpoint(checkpoint)
    with pytest.raises(ImageError):
        load_image(checkpoint)
    assert not trace.exists()


def _count_with(bundle: Path) -> None:
    engine.CrowdCounter(model=bundle, backend="torch", device="cpu")


def _train_from(bundle: Path) -> None:
    unused: Any = None
    start_network(bundle, unused)


@pytest.mark.parametrize("load", [_count_with, _train_from])
@pytest.mark.parametrize("write", [torch.save, pickle.dump], ids=["torch.save", "pickle.dump"])
def test_hostile_weights_run_nothing(load: Callable[[Path], None], write: Callable[..., None], tmp_path: Path) -> None:
    """A pickle in the place of a bundle's weights, with its right size and hash in the manifest."""
    bundle = write_small_bundle(tmp_path / "bundle").path
    trace, hostile = tmp_path / "ran", io.BytesIO()
    # No smaller than the weights that it replaces, or the graphs that refer to those are refused.
    write({"w": Payload(trace), "more": torch.zeros(2000)}, hostile)
    add_files(bundle, {WEIGHTS_FILE: hostile.getvalue()}, {})
    with pytest.raises(BundleError, match=r"damaged.*header"):
        load(bundle)
    assert not trace.exists()
