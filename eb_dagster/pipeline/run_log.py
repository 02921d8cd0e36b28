"""A run in the log `eb_dagster`, in counts only, at a pace that a person can read; nobody sees it who has not asked."""

from __future__ import annotations

import inspect
import logging
import warnings
from typing import Final

LOGGER: Final = logging.getLogger("eb_dagster")

# Like any library's: without a handler of the user's own, Python prints nothing below a warning.
LOGGER.addHandler(logging.NullHandler())


def warn_caller(message: str) -> None:
    """Warn as if the line of the user's own that this comes from had said it."""
    level, frame = 1, inspect.currentframe()
    # `skip_file_prefixes` does this since Python 3.12.
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == "eb_dagster":
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)
