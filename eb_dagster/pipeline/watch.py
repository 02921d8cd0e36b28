"""A run from its first word to its last: how it buys, and what is left if it ends before its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from eb_dagster.errors import EnrichError
from eb_dagster.pipeline.opening import Opening
from eb_dagster.pipeline.report import warn_of_rest
from eb_dagster.pipeline.run_log import LOGGER, warn_caller

if TYPE_CHECKING:
    from eb_dagster.pipeline.run import Run


class Watch:
    """Watches an enricher's runs, of which several may be open at once. `opening` tells how it buys."""

    def __init__(self, *, opening: Callable[[], Opening]) -> None:
        self._opening = opening
        self._is_announced = False

    def over(self, run: Run, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The batches of a run. Says in the log and above its bar how it buys, and warns if it ends before its rows."""
        run.opening_lines = self._announce()
        try:
            yield from batches
        except EnrichError as error:
            run.note_early_end(f"it failed ({type(error).__name__})")
            raise
        except GeneratorExit:
            run.note_early_end("nobody took the rest of its rows")
            raise
        except BaseException:
            run.note_early_end("it was interrupted")
            warn_of_rest(run.report)
            raise
        warn_of_rest(run.report)

    def _announce(self) -> Sequence[str]:
        """Say once, in the log, how this buys; and warn of an empty ledger. Returns what was said."""
        if self._is_announced:
            return ()
        self._is_announced = True
        opening = self._opening()
        for line in opening.lines:
            LOGGER.info(line)
        if opening.warning is not None:
            warn_caller(opening.warning)
        return opening.lines
