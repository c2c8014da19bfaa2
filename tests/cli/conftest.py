"""Pictures for a stand-in counter."""

from __future__ import annotations

import pytest


@pytest.fixture
def pictures(tmp_path):
    """Three pictures in two folders; two share a name."""
    folder = tmp_path / "pictures"
    for name, size in (("a.jpg", 1), ("b.PNG", 2), ("deep/a.jpg", 3)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x" * size)
    (folder / "notes.txt").write_text("no picture")
    return folder
