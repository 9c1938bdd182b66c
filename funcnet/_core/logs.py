"""Other libraries' log messages, kept back where funcnet says itself what happened."""

import contextlib
import logging
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without the messages of absl's logger, and the tracebacks of threads whose exception is raised here as well."""
    logger, hooks = logging.getLogger("absl"), (threading.excepthook, sys.excepthook, sys.unraisablehook)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    threading.excepthook, sys.excepthook, sys.unraisablehook = _nothing, _nothing, _nothing
    try:
        yield
    except Exception:
        time.sleep(0.5)  # for the threads that have not given up yet
        raise
    finally:
        logger.setLevel(level)
        threading.excepthook, sys.excepthook, sys.unraisablehook = hooks


def _nothing(*arguments: Any) -> None:
    """A hook."""


def warn(message: str) -> None:
    """A RuntimeWarning that points to the caller's line, however deep in funcnet it arises."""
    frame, depth = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(("funcnet.", "contextlib")):
        frame, depth = frame.f_back, depth + 1
    warnings.warn(message, RuntimeWarning, stacklevel=depth)
