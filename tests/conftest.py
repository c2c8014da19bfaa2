"""Tests marked ``gpu`` run where there is a CUDA device, and say elsewhere why they cannot."""

from __future__ import annotations

import pytest

from engine.backends.cuda.driver import probe_library
from engine.errors import BackendError


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    try:
        probe_library()
    except BackendError as error:
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=f"no CUDA device: {error}"))
