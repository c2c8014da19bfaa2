"""The suite as pytest sees it: options, one test for each way of each group, and what is printed and written.

The suite times by itself: the ways of a group are timed in turns, once, when the first of their tests runs. Each test
then says whether its way agreed with the oracle; the times stand in the summary and in the results.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from suite import summary
from suite.ceilings import Ceilings, measure_ceilings
from suite.footprint import disk_rows
from suite.groups import Budget, Case, Measured, hopeless, measure
from suite.machine import anchor, describe, devices
from suite.plan import Plan
from suite.results import Results, timed_row, write

from engine.cli.machine import read_cpu

_FOLDER = Path(__file__).parent
# A group gets at least this share of its time, however late the suite is.
_LEAST_SHARE = 0.25


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("crowd-engine")
    group.addoption("--quick", action="store_true", help="small shapes and few rounds: for the checks, not for times")
    group.addoption("--minutes", type=float, default=9.0, help="to aim at: groups are cut short where it would be more")
    group.addoption("--results", type=Path, help="JSON file to write (default: bench/results/cpu.json or cuda.json)")


class Suite:
    """One run: what was measured, and the rows."""

    def __init__(self, config: pytest.Config):
        self.quick: bool = config.option.quick
        kinds, self.no_gpu = devices()
        self.plan = Plan(self.quick, tuple(kinds), read_cpu().cores)
        self.results = Results(describe(), self.quick)
        self._anchor = anchor()
        self._measured: dict[int, Measured] = {}
        # Ways of counting that are left out from now on, and why.
        self._hopeless: dict[str, str] = {}
        self._ceilings: Ceilings | None = None
        self.started = time.monotonic()
        self._seconds = 60.0 * config.option.minutes

    @property
    def ceilings(self) -> Ceilings:
        """Those of the machine, measured at first use."""
        if self._ceilings is None:
            seconds, largest = (0.1, 1 << 21) if self.quick else (12.0, 1 << 28)
            self._ceilings = measure_ceilings(seconds, self.plan.threads, largest)
            self.results.rows += summary.ceiling_rows(self._ceilings)
            self.results.left_out |= {f"ceilings: {name}": why for name, why in self._ceilings.missing.items()}
        return self._ceilings

    def _budget(self, case: Case, cases: list[Case]) -> Budget:
        """The case's budget, or less of it where the suite is late: loading and checking take as long as timing."""
        wanted = sum(other.budget.seconds for other in cases if id(other) not in self._measured)
        left = self._seconds - (time.monotonic() - self.started)
        share = min(1.0, max(_LEAST_SHARE, left / (2 * wanted)))
        return dataclasses.replace(case.budget, seconds=share * case.budget.seconds)

    def measure(self, case: Case, cases: list[Case], labels: list[str], say: Callable[[str], None]) -> Measured:
        """Measure a group of the ``cases`` at its first use, and add its rows."""
        if id(case) not in self._measured:
            budget = self._budget(case, cases)
            start = time.monotonic()
            self.results.anchors.append(self._anchor())
            group = case.make()
            left_out = {label: self._hopeless[label] for label in labels if label in self._hopeless}
            measured = measure(group, [label for label in labels if label not in left_out], budget)
            measured = dataclasses.replace(measured, missing={**measured.missing, **left_out})
            self._measured[id(case)] = measured
            if group.name == "count":
                self._hopeless |= hopeless(measured)
            for label, timing in measured.timings.items():
                columns = {**group.settings, **group.figures(label, timing)}
                row = timed_row(group.name, group.case, label, timing, **columns)
                self.results.rows.append(summary.with_roof(row, lambda: self.ceilings))
                self.results.rows += [
                    summary.with_roof(more, lambda: self.ceilings) for more in group.more_rows(label, timing)
                ]
            name = f"{group.name} {group.case}"
            self.results.refused |= {f"{name}: {label}": why for label, why in measured.refused.items()}
            self.results.left_out |= {f"{name}: {label}": why for label, why in measured.missing.items()}
            took = time.monotonic() - start
            say(f"{case.name}: {len(measured.timings)} timed, {len(measured.refused)} refused, {took:.0f} s")
        return self._measured[id(case)]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "groups(cases): one test for each way of the cases of a plan")
    # The libraries that we compare with warn as they like.
    config.addinivalue_line("filterwarnings", "default")
    config.stash[_SUITE] = Suite(config)


_SUITE = pytest.StashKey[Suite]()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("groups")
    if marker is None:
        return
    suite = metafunc.config.stash[_SUITE]
    params = [
        pytest.param((case, label), id=f"{case.name}-{label}")
        for case in marker.kwargs["cases"](suite.plan)
        for label in case.labels
    ]
    metafunc.parametrize("timed", params, indirect=True)


@pytest.fixture
def timed(request: pytest.FixtureRequest) -> Callable[[], None]:
    """Report the way of this test: its times, or why it has none."""
    case, label = request.param
    suite = request.config.stash[_SUITE]
    reporter = request.config.pluginmanager.getplugin("terminalreporter")
    capture = request.config.pluginmanager.getplugin("capturemanager")
    items = request.session.items
    # Only what was selected runs.
    chosen = [item.callspec.params["timed"] for item in items if "timed" in getattr(item, "fixturenames", ())]
    cases = list({id(other): other for other, _ in chosen}.values())
    labels = [name for other, name in chosen if other is case]

    def say(text: str) -> None:
        if reporter is None:
            return
        spent, number = time.monotonic() - suite.started, [id(x) for x in cases].index(id(case)) + 1
        with capture.global_and_fixture_disabled():
            reporter.ensure_newline()
            reporter.write_line(f"[{number}/{len(cases)}, {spent / 60:.1f} min] {text}")

    def report() -> None:
        measured = suite.measure(case, cases, labels, say)
        if label in measured.missing:
            pytest.skip(measured.missing[label])
        if label in measured.refused:
            pytest.fail(measured.refused[label], pytrace=False)
        assert measured.timings[label].samples

    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    suite = config.stash[_SUITE]
    results = suite.results
    if not results.rows and not results.refused:
        return
    terminalreporter.section("benchmarks")
    results.rows += summary.exponents(results)
    if results.find("process"):
        results.rows += disk_rows()
    for line in summary.render(results, suite.no_gpu):
        terminalreporter.write_line(line)
    path = config.option.results or _default_path(config, suite)
    if path is None:
        terminalreporter.write_line("not written, as this was not the whole suite; --results FILE writes it")
    else:
        write(results, path)
        terminalreporter.write_line(f"written: {path} and {path.with_suffix('.csv').name}")


def _default_path(config: pytest.Config, suite: Suite) -> Path | None:
    """Where the results of a whole run go; None for a part of the suite, or the quick one."""
    reporter = config.pluginmanager.getplugin("terminalreporter")
    ran = {Path(report.nodeid.split("::")[0]).name for reports in reporter.stats.values() for report in reports
           if hasattr(report, "nodeid")}  # fmt: skip
    whole = ran >= {path.name for path in _FOLDER.glob("test_*.py")} and not reporter.stats.get("deselected")
    if suite.quick or not whole:
        return None
    return _FOLDER / "results" / ("cuda.json" if "cuda" in suite.plan.devices else "cpu.json")
