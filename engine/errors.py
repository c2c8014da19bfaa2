"""Every error the engine raises on purpose; each says what was got, what was expected and what to do."""

from __future__ import annotations

# Message of a counter that is used after its end.
CLOSED = "this CrowdCounter is closed; make a new one"


class EngineError(Exception):
    """Base of all errors raised by the engine."""


class ConfigError(EngineError, ValueError):
    """An argument is outside its range or names something that does not exist."""


class ImageError(EngineError, ValueError):
    """A picture cannot be read, is not a picture, or is outside the limits."""


class BundleError(EngineError):
    """A model bundle is missing, damaged or made for another version."""


class BackendError(EngineError, RuntimeError):
    """The requested backend or device is not available, or failed while running."""


class OutOfMemoryError(BackendError):
    """The device has not as much memory as a picture needs; a smaller picture may do."""


class NotFiniteError(BackendError):
    """The network gave numbers that are not finite; there is no count."""


class MapsNotKeptError(EngineError, AttributeError):
    """A map is asked for of a result that was counted with ``maps=False``."""


class SourceError(EngineError):
    """A video, folder or camera cannot be opened, read or reached."""


# What one picture may fail with while the next, or a smaller one, does not.
ONE_PICTURE = (ImageError, OSError, NotFiniteError, OutOfMemoryError)


def is_interrupt(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind ``error``, which may have come of it.

    A library that Ctrl-C stops in the middle may fail in its own way as it cleans up, or wrap what its parts raise;
    C++ wraps it as text.
    """
    while error is not None:
        if isinstance(error, KeyboardInterrupt) or "KeyboardInterrupt" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
