"""What all requests share: the scripts, the counts, the limits and the journals."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

from . import connection_faults, meaning_faults, reply_faults, size_faults  # noqa: F401 - they register faults
from .exchange import Exchange
from .limits import Limit, refuse
from .people import Json
from .registry import FAULTS

NEVER = 1 << 60
"""A request number that is never reached."""


class Vendor:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.Lock()
        self.counts: dict[str, int] = {}
        self.limits: dict[str, Limit] = {}
        self.journals: dict[str, int] = {}

    def script(self, case: str) -> Json:
        try:
            return json.loads((self.folder / f"{case}.json").read_text())
        except FileNotFoundError:
            return {}

    def count(self, case: str) -> int:
        """The number of the next request, from 1."""
        with self.lock:
            self.counts[case] = self.counts.get(case, 0) + 1
            return self.counts[case]

    def limit(self, case: str, facts: Json) -> Limit:
        with self.lock:
            if case not in self.limits:
                self.limits[case] = Limit(**facts)
            return self.limits[case]

    def note(self, case: str, **event: Any) -> None:
        """Write one event into the journal of a case; a charge durably."""
        with self.lock:
            if case not in self.journals:
                path = self.folder / f"{case}.jsonl"
                self.journals[case] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            journal = self.journals[case]
            os.write(journal, json.dumps(event).encode() + b"\n")
        if event["what"] == "charged":
            os.fdatasync(journal)

    def serve(self, connection: socket.socket) -> None:
        """Answer one connection."""
        with contextlib.closing(connection):
            head, rest = _read_head(connection)
            if head is None:
                return
            exchange = Exchange(self, connection, head, rest)
            try:
                self._answer(exchange)
            except (OSError, ConnectionError) as error:
                exchange.note("broke", why=type(error).__name__)
            exchange.note("left")
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)

    def _answer(self, exchange: Exchange) -> None:
        script = exchange.script
        if "latency" in script:
            time.sleep(exchange.random.uniform(*script["latency"]))
        if self._is_over_the_limit(exchange):
            return
        if (chosen := _choose_fault(exchange)) is not None:
            exchange.note("fault", kind=chosen["kind"])
            FAULTS[chosen["kind"]](exchange, **chosen.get("args", {}))
            exchange.note("answered")
            return
        if not exchange.has_right_key():
            exchange.read()
            exchange.reply(401, b'{"error": "API key is invalid"}')
            return
        body = exchange.process()
        if "processing" in script:
            time.sleep(exchange.random.uniform(*script["processing"]))
        if "gate" in script:
            exchange.wait_for_gate(Path(script["gate"]))
        exchange.reply_json(body)
        exchange.note("answered")

    def _is_over_the_limit(self, exchange: Exchange) -> bool:
        """Refuse a request that is over the limit of its case."""
        if "limit" not in exchange.script:
            return False
        limit = self.limit(exchange.case, exchange.script["limit"])
        if limit.lets_through():
            return False
        exchange.read()
        exchange.note("refused")
        refuse(exchange, amount=limit.amount, seconds=limit.seconds)
        return True


def _choose_fault(exchange: Exchange) -> Json | None:
    for fault in exchange.script.get("faults", ()):
        is_due = exchange.number in fault.get("requests", ()) or exchange.number >= fault.get("since", NEVER)
        if is_due and exchange.random.random() < fault.get("share", 1.0):
            return fault
    return None


def _read_head(connection: socket.socket) -> tuple[bytes | None, bytes]:
    """The head of a request, and what came with it of the body."""
    data = b""
    with contextlib.suppress(OSError):
        while b"\r\n\r\n" not in data:
            piece = connection.recv(1024)
            if not piece:
                return None, b""
            data += piece
        head, _, rest = data.partition(b"\r\n\r\n")
        return head, rest
    return None, b""
