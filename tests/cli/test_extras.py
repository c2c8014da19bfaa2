"""Which extras an environment has, by the requirements of the package."""

from __future__ import annotations

from importlib import metadata

import pytest

from engine.cli.extras import DISTRIBUTION, EXTRAS, check_extras, needs_extra
from engine.errors import EngineError

REQUIREMENTS = [
    "numpy>=1.26",
    'numpy>=1.26; extra == "video"',
    'not-there[all]>=2; extra == "heic"',
    'numpy; extra == "serve"',
    'also-not-there==1; extra == "serve"',
    f'{DISTRIBUTION}[heic,serve]; extra == "mqtt"',
    'only-there<3; sys_platform == "beos" and extra == "eval"',
    'other; extra == "videos"',
]


def test_what_is_missing_of_each_extra() -> None:
    missing = {x.name: x.missing for x in check_extras(REQUIREMENTS)}
    found = {"heic": ("not-there",), "serve": ("also-not-there",), "mqtt": ("not-there", "also-not-there")}
    assert missing == dict.fromkeys(EXTRAS, ()) | found


def test_every_extra_is_one_of_the_package() -> None:
    named = set(metadata.metadata(DISTRIBUTION).get_all("Provides-Extra"))
    assert set(EXTRAS) <= named
    # Without any package each of them lacks some, so none is empty by mistake.
    others = [x for x in metadata.requires(DISTRIBUTION) if not x.startswith(DISTRIBUTION)]
    renamed = [x.replace(x.partition(";")[0], "absent") for x in others]
    assert all(x.missing for x in check_extras(renamed))


def test_a_command_names_the_extra_that_it_needs() -> None:
    words = r"needs not_there: pip install 'crowd-engine\[video\]'"
    with pytest.raises(EngineError, match=words), needs_extra("video"):
        import not_there  # noqa: F401
    with pytest.raises(ModuleNotFoundError), needs_extra("video"):
        import engine.not_there  # noqa: F401
