"""How the time of a count grows: with pixels, steps, batch, threads and people; the exponents are printed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from suite.groups import Case
from suite.plan import Plan
from suite.scaling import scaling_cases


def cases(plan: Plan) -> list[Case]:
    return scaling_cases(plan)


@pytest.mark.groups(cases=cases)
def test_scaling(timed: Callable[[], None]) -> None:
    timed()
