"""Counters that are closed while other threads count."""

from __future__ import annotations

import threading
import time
from typing import Any

import engine
from engine.errors import CLOSED, EngineError

_THREADS = 3


def close_while_counting(counter: engine.CrowdCounter, image: Any) -> list[engine.CountResult]:
    """What threads counted until the counter was closed; each must have been told so in the end, and nothing else."""
    started, results, errors = threading.Barrier(_THREADS + 1), [], []

    def count() -> None:
        started.wait()
        try:
            while True:
                results.append(counter.count(image))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=count) for _ in range(_THREADS)]
    for thread in threads:
        thread.start()
    started.wait()
    while not results and not errors:
        time.sleep(0.01)
    counter.close()
    for thread in threads:
        thread.join()
    assert [(type(x), str(x)) for x in errors] == [(EngineError, CLOSED)] * _THREADS
    return results
