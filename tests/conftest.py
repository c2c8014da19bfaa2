"""Tests marked ``gpu`` run where there is a CUDA device, and say elsewhere why they cannot."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from backends.cuda import libcuda

from engine.backends.cuda.driver import probe_library
from engine.errors import BackendError


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled models are not taken from the user's cache, and not put there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CROWD_CACHE_DIR", str(tmp_path_factory.mktemp("compiled")))
        yield


@pytest.fixture(autouse=True)
def _no_device_afterwards() -> Iterator[None]:
    """A simulated GPU is there for one test."""
    yield
    libcuda.serve(None)


def pytest_configure() -> None:
    # A shell that starts the tests in the background has Ctrl-C ignored, and so would the commands that they interrupt.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    try:
        probe_library()
    except BackendError as error:
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=f"no CUDA device: {error}"))
