"""The examples in the docstrings run as they are written."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import engine

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(engine.__path__, "engine.")
    if not module.name.endswith("__main__") and "._core" not in module.name
)
WITH_EXAMPLES = {
    "engine.counter",
    "engine.counting.heads",
    "engine.kernels.reference",
    "engine.image.tiles",
    "engine.system.recently_used",
    "engine.diffusion.sampler",
}


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except engine.EngineError as error:
        # Ray is in an environment of its own.
        assert name == "engine.ray"
        pytest.skip(str(error))
    failed, attempted = doctest.testmod(module)
    assert failed == 0
    assert attempted > 0 or name not in WITH_EXAMPLES
