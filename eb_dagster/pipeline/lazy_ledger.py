"""An enricher's ledger, which is made by the first run or decision and never by a plan."""

from __future__ import annotations

import contextlib
from pathlib import Path

from eb_dagster.errors import LedgerError
from eb_dagster.ledger.connection import has_ledger, is_writable
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.ledger.schema import NoLedger
from eb_dagster.settings import Settings, endpoint_of
from eb_dagster.tables.atomic_file import private_folder


class LazyLedger:
    """Opens what the settings name when it is needed."""

    def __init__(self, settings: Settings) -> None:
        self._where = settings.ledger
        self._endpoint = endpoint_of(settings.base_url)
        self._opened: Ledger | None = None
        self._read: Ledger | None = None
        self._empty: Ledger | None = None
        self._folder = contextlib.ExitStack()
        self._is_closed = False

    @property
    def is_there(self) -> bool:
        """Whether there is one already."""
        return self._opened is not None or has_ledger(self._where)

    def to_write(self) -> Ledger:
        """The ledger, made if it is not there yet.

        Raises:
            LedgerError: it cannot be trusted to remember, or the enricher is closed.

        """
        if self._opened is None:
            if self._is_closed:
                raise LedgerError("the enricher is closed; open a new one")
            self._opened = Ledger(self._where, endpoint=self._endpoint)
        return self._opened

    def to_read(self) -> Ledger:
        """The ledger, opened for reading only, or an empty one in the place of one that is not there yet. Raises likewise.

        What a process left in flight that ended, only who may write can settle, so that is done if it can be.
        """
        if self._opened is not None or self._is_closed:
            return self.to_write()
        self._read = self._read or self._open_to_read()
        if self._read is None:
            return self._none_yet()
        if self._read.has_in_flight() and is_writable(self._where):
            return self.to_write()
        return self._read

    def _open_to_read(self) -> Ledger | None:
        with contextlib.suppress(NoLedger):
            if self.is_there:
                return Ledger(self._where, endpoint=self._endpoint, reads_only=True)
        return None

    def _none_yet(self) -> Ledger:
        """An empty ledger that is gone with the enricher."""
        if self._empty is None:
            folder = Path(self._folder.enter_context(private_folder()))
            self._empty = Ledger(folder / "ledger.db", endpoint=self._endpoint)
        return self._empty

    def close(self) -> None:
        """Let go of all of them."""
        self._is_closed = True
        for ledger in (self._opened, self._read, self._empty):
            if ledger is not None:
                ledger.close()
        self._folder.close()
