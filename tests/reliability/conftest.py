"""``--long`` repeats the random tests more often; docs/reliability.md says which, and what came of it."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="the long form of the random tests: an hour on two cores")


@pytest.fixture(scope="session")
def long_run(request: pytest.FixtureRequest) -> bool:
    # The option is unknown where this file is found only after the command line was read.
    return bool(request.config.getoption("--long", default=False))
