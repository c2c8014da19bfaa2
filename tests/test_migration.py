"""What docs/migration.md says of version 0.1 holds."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest
from reliability.small_bundle import write_small_bundle

from engine.bundle.bundle import load_bundle
from engine.counting.heads import choose_rule
from engine.errors import BundleError

PAGE = (Path(__file__).parent.parent / "docs" / "migration.md").read_text(encoding="utf-8")
# The sections of a manifest of 0.1 that describe the model.
MODEL = {
    "widths": [32, 64, 128, 192, 256], "depths": [0, 1, 2, 2, 1], "stem_kernel": 5, "features": 96, "attention_dim": 32,
    "encoder_attention_passes": 2, "decoder_width": 64, "decoder_blocks": 2, "decoder_attention_passes": 1,
    "time_frequencies": 8, "map_stride": 2, "map_scale": 0.25, "pixel_mean": 0.45, "pixel_std": 0.27, "crop_size": 256,
}  # fmt: skip
RULE = {"low": 0.14, "high": 0.58, "least": 0.75, "most": 1.2, "most_haze": 0.9, "most_weak": 2.05}


def moved() -> list[tuple[str, str]]:
    """Modules of 0.1 and of now, from the table."""
    pairs = []
    for then, now in re.findall(r"^\| (`engine.*?) \| (`engine.*?) \|$", PAGE, re.MULTILINE):
        columns = [_modules(cell) for cell in (then, now)]
        # A room may take in several modules of which the last name stays.
        pairs += zip(columns[0], columns[1], strict=True)
    return pairs


def _modules(cell: str) -> list[str]:
    names = re.findall(r"`(.+?)`", cell)
    package = names[0].rpartition(".")[0]
    return [package + name if name.startswith(".") else name for name in names]


@pytest.mark.parametrize(("then", "now"), moved())
def test_modules_are_where_the_table_says(then, now):
    assert importlib.util.find_spec(now) is not None
    try:
        spec = importlib.util.find_spec(then)
    except ModuleNotFoundError:
        spec = None
    # Where a room has the name that a module had, its own modules are inside.
    assert spec is None or (spec.submodule_search_locations and now.startswith(f"{then}."))


def test_the_table_was_read():
    assert len(moved()) > 20
    assert ("engine.training.metrics", "engine.evaluation.metrics") in moved()


def test_a_bundle_of_then_is_refused_and_its_settings_are_read(tmp_path):
    write_small_bundle(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    # Its graphs are as narrow as they are.
    model = MODEL | {name: manifest["model"][name] for name in ("features", "map_stride")}
    manifest |= {"format": 1, "model": model, "counting": {"2": RULE, "3": RULE}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="crowd export CHECKPOINT BUNDLE"):
        load_bundle(tmp_path)
    # Exported anew, it has the settings and rules of its checkpoint.
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"format": 2}))
    bundle = load_bundle(tmp_path)
    assert bundle.model.pixel_mean == 0.45
    assert choose_rule(bundle.counting, 2).most_weak == 2.05
