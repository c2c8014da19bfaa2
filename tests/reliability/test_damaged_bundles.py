"""Bundles with flipped bits, cut files and damaged manifests: refused with BundleError before a runtime sees them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from reliability.mutations import mutate
from reliability.small_bundle import write_small_bundle

import engine
from engine import counter as counter_module
from engine.bundle.bundle import MANIFEST_FILE, Bundle, load_bundle
from engine.bundle.cubins import load_cubins, pack_cubins
from engine.config import ModelConfig
from engine.counting.heads import choose_rule
from engine.errors import BundleError

SHIPPED = sorted(x.name for x in load_bundle("default").path.iterdir())


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the shipped bundle; each test mends what it damages."""
    return Path(shutil.copytree(load_bundle("default").path, tmp_path_factory.mktemp("shipped") / "bundle"))


@pytest.fixture
def no_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    def reached(*_: object) -> None:
        raise AssertionError("a runtime was reached")

    monkeypatch.setattr(counter_module, "create_backend", reached)


@pytest.mark.usefixtures("no_runtime")
@pytest.mark.parametrize("name", [x for x in SHIPPED if x != MANIFEST_FILE])
def test_flipped_bits_in_every_file(shipped: Path, name: str, long_run: bool) -> None:
    """One bit in each of 4 (64) regions of the file."""
    file = shipped / name
    sound = file.read_bytes()
    rng = np.random.default_rng(list(name.encode()))
    try:
        for region in np.array_split(np.arange(len(sound)), 64 if long_run else 4):
            at = int(rng.choice(region))
            with open(file, "r+b") as stream:
                stream.seek(at)
                stream.write(bytes([sound[at] ^ 1 << int(rng.integers(0, 8))]))
            with pytest.raises(BundleError, match=name):
                engine.CrowdCounter(shipped)
            with open(file, "r+b") as stream:
                stream.seek(at)
                stream.write(sound[at : at + 1])
        for length in (0, 1, len(sound) // 2, len(sound) - 1):
            file.write_bytes(sound[:length])
            with pytest.raises(BundleError, match=name):
                engine.CrowdCounter(shipped)
    finally:
        file.write_bytes(sound)


def test_the_copy_is_sound(shipped: Path) -> None:
    assert load_bundle(shipped).digest == load_bundle("default").digest


def test_damaged_manifests_are_read_or_refused(tmp_path: Path, long_run: bool) -> None:
    """2,000 (50,000) damaged manifests: what loads is complete and within its ranges."""
    folder = write_small_bundle(tmp_path / "bundle").path
    manifest = folder / MANIFEST_FILE
    sound = manifest.read_bytes()
    rng = np.random.default_rng(7)
    loaded = 0
    count = 50_000 if long_run else 2_000
    for _ in range(count):
        manifest.write_bytes(mutate(sound, rng, sound))
        try:
            bundle = load_bundle(folder)
        except BundleError:
            continue
        loaded += 1
        _assert_whole(bundle)
    assert 0 < loaded < count / 2


def _assert_whole(bundle: Bundle) -> None:
    assert isinstance(bundle.model, ModelConfig)
    assert 1 <= bundle.default_steps <= 1000
    assert all(0 < rule.low <= rule.high <= 1 for rule in bundle.counting.values())
    assert choose_rule(bundle.counting, 4) in bundle.counting.values()
    assert set(bundle.programs) == {"encoder", "decoder"}


def test_damaged_archives_of_kernels(tmp_path: Path, long_run: bool) -> None:
    """Archives behind a right hash, as a stranger could write them: 1,000 (50,000) are read or refused."""
    entry = {"kernel": "k", "variant": "v", "arch": 90, "file": "k.cubin"}
    sound = pack_cubins([entry], {"k.cubin": bytes(range(256))}, {"triton": "1"})
    rng = np.random.default_rng(8)
    read = 0
    for _ in range(50_000 if long_run else 1_000):
        (tmp_path / "cubins.zip").write_bytes(mutate(sound, rng, sound))
        try:
            cubins = load_cubins(tmp_path)
            cubins.read("k.cubin")
            read += 1
        except BundleError:
            continue
    assert read > 0


def test_packed_archives_are_not_unpacked(tmp_path: Path) -> None:
    """A megabyte that would become a gigabyte."""
    import zipfile

    with zipfile.ZipFile(tmp_path / "cubins.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("index.json", b" " * (1 << 26))
    with pytest.raises(BundleError, match="not plainly stored"):
        load_cubins(tmp_path)


@pytest.mark.parametrize("name", ["cubins.zip", "weights.safetensors"])
def test_files_that_the_manifest_does_not_list(tmp_path: Path, name: str) -> None:
    folder = write_small_bundle(tmp_path / "bundle").path
    manifest = folder / MANIFEST_FILE
    text = manifest.read_text()
    (folder / name).write_bytes(b"of a stranger")
    manifest.write_text(text.replace(f'"{name}"', '"other"'))
    with pytest.raises(BundleError, match=name if name == "cubins.zip" else "other is missing"):
        load_bundle(folder)
