"""A run in the log `eb_dagster`, in counts only, at a pace that a person can read; nobody sees it who has not asked."""

from __future__ import annotations

import logging
from typing import Final

LOGGER: Final = logging.getLogger("eb_dagster")

# Like any library's: without a handler of the user's own, Python prints nothing below a warning.
LOGGER.addHandler(logging.NullHandler())
