"""Other crowd counters as architectures, for one picture: the network alone, against our whole count."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from suite.groups import Case
from suite.peers import peer_case
from suite.plan import Plan


def cases(plan: Plan) -> list[Case]:
    return [peer_case(plan)]


@pytest.mark.groups(cases=cases)
def test_networks(timed: Callable[[], None]) -> None:
    timed()
