"""Whichever call of the driver fails, and whichever argument is wrong: the one leaks nothing, the other is noticed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from backends.cuda.everything import fake_driver, use_everything
from backends.cuda.fake_driver import FakeDriver

from engine.backends.cuda.driver import CudaError
from engine.errors import BackendError

# Calls of probe_library().
_PROBE = 2


@pytest.mark.parametrize("eager", [(), (True,), (True, True)], ids=str)
def test_everything_is_freed(eager) -> None:
    driver = fake_driver(eager=eager)
    use_everything(driver)
    driver.assert_clean()
    # The last of them was queued when the context was closed.
    assert [(name, shape, values[1:]) for name, shape, values in driver.launches] == [
        ("add", (2, 1, 1, 128, 1, 1, 65536), (5, 2.5, -7, 0.5))
    ] * 2


@pytest.mark.parametrize("code", [1, 2])
def test_nothing_leaks_whichever_call_fails(code) -> None:
    driver = fake_driver()
    use_everything(driver)
    calls = len(driver.calls)
    assert calls > 150
    for number in range(calls):
        _assert_clean_after_failure(fake_driver(fail_at=number, code=code), number)


def _assert_clean_after_failure(driver: FakeDriver, number: int) -> None:
    with pytest.raises(BackendError) as caught:
        use_everything(driver)
    # The first error may be followed by others on the way out.
    errors = [caught.value]
    while errors[-1].__context__ is not None:
        errors.append(errors[-1].__context__)
    failed = driver.calls[number][0]
    if number < _PROBE:
        # The first look at the driver, which goes by the library itself.
        assert "driver is installed but reports CUDA_ERROR" in str(caught.value)
        return
    assert failed in [error.call for error in errors if isinstance(error, CudaError)], number
    if (driver.calls[number - 1][0], failed) == ("cuThreadExchangeStreamCaptureMode", "cuCtxPushCurrent"):
        # Nothing can be freed without the context; the driver does it with the last reference to the context.
        driver.live.clear()
        driver._memories.clear()
    driver.assert_clean()


# Changes that nothing can notice, and why. By function, number of the argument and of the change.
HARMLESS = {
    "cuDeviceGetName 0 0": "one byte more of room for the name",
    "cuMemAllocFromPoolAsync 0 0": "one byte more",
    "cuMemAllocHost 0 0": "one byte more",
    "cuFuncSetAttribute 2 0": "one byte more of shared memory may be asked for",
    "cuEventCreate 0 1": "an event that keeps the time is slower",
    "cuMemAllocFromPoolAsync 2 1": "memory in the order of the default stream is there earlier",
    "cuMemFreeAsync 1 2": "both streams have come to their end",
    "cuStreamSynchronize 0 2": "both streams have come to their end",
    "cuStreamGetCtx 0 1": "the default stream is of the same context; test_streams has one of another",
    # Asked for its context; the older bindings have other kinds of enumerations, so that other values are tried.
    "cuPointerGetAttribute 0 0": "memory of no context is taken; test_device_arrays has some of another",
    "cuPointerGetAttribute 0 1": "likewise",
    "cuPointerGetAttribute 1 0": "likewise",
    "cuPointerGetAttribute 1 1": "likewise",
    "cuThreadExchangeStreamCaptureMode 0 0": "no capture is going on; test_streams closes within one",
    "cuThreadExchangeStreamCaptureMode 0 1": "likewise",
}


def test_one_wrong_argument_is_noticed() -> None:
    """In each call of the driver that the CUDA layer makes; a process of its own, as some changes end it."""
    folder = Path(__file__).parent
    command = [sys.executable, "-P", str(folder / "mutations.py"), str(folder.parents[1])]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    made, survived = sum(found["made"].values()), found["survived"]
    assert made > 180
    assert set(survived) <= set(HARMLESS)
    print(f"{made - sum(survived.values())} of {made} changes of one argument are noticed, the others are harmless")
