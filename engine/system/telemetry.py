"""Imports without the reports that a package sends home."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Importing openvino otherwise starts a process that reports to a statistics service, and leaves an identity in the
# user's home. It takes the absence of this package for "no reports".
_REPORTER = "openvino_telemetry"


@contextmanager
def no_telemetry() -> Iterator[None]:
    """Within it, OpenVINO's reporter seems not to be installed; afterwards it is as it was.

    What has been imported before, by someone else, stays as it is.
    """
    if _REPORTER in sys.modules:
        yield
        return
    # An import of a name that is None here fails like that of a missing package.
    sys.modules[_REPORTER] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[_REPORTER]
