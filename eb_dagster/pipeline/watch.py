"""A run from its first word to its last: how it buys, and what is left if it ends before its rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pyarrow as pa

from eb_dagster.errors import EnrichError
from eb_dagster.pipeline.opening import Opening
from eb_dagster.pipeline.report import Report, warn_of_rest
from eb_dagster.pipeline.run_log import LOGGER, warn_caller


class Watch:
    """Watches an enricher's runs. `report` gives the newest run's report, `opening` how it buys."""

    def __init__(self, *, report: Callable[[], Report], opening: Callable[[], Opening]) -> None:
        self._report = report
        self._opening = opening
        self._is_announced = False
        self._started = 0.0

    def over(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The batches of a run. Says in the log how it buys, and warns if it ends before its rows."""
        self._started = time.monotonic()
        self._announce()
        try:
            yield from batches
        except EnrichError as error:
            self.note_early_end(f"it failed ({type(error).__name__})")
            raise
        except GeneratorExit:
            self.note_early_end("nobody took the rest of its rows")
            raise
        except BaseException:
            self.note_early_end("it was interrupted")
            warn_of_rest(self._report())
            raise
        warn_of_rest(self._report())

    def note_early_end(self, why: str) -> None:
        """Note that the newest run has ended before its rows, if that is not noted yet."""
        report = self._report()
        if report.ended_early is None:
            report.ended_early = why
            report.seconds = time.monotonic() - self._started

    def _announce(self) -> None:
        """Say once, in the log, how this buys; and warn of an empty ledger."""
        if self._is_announced:
            return
        self._is_announced = True
        opening = self._opening()
        for line in opening.lines:
            LOGGER.info(line)
        if opening.warning is not None:
            warn_caller(opening.warning)
