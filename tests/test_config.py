"""What the environment sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.backends.compiled_cache import compiled_folder


def test_folder_of_compiled_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The argument, before our variable, before the system's, before the home folder."""
    monkeypatch.delenv("CROWD_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    folder = compiled_folder(None)
    assert folder is not None
    assert folder.is_relative_to(Path.home())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert compiled_folder(None) == tmp_path / "xdg" / "crowd-engine"
    monkeypatch.setenv("CROWD_CACHE_DIR", str(tmp_path / "ours"))
    assert compiled_folder(None) == tmp_path / "ours"
    assert compiled_folder(str(tmp_path)) == tmp_path
    assert compiled_folder("") == tmp_path / "ours"


def test_users_without_a_home_have_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("CROWD_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert compiled_folder(None) is None
