"""One request, and ways to answer it."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from .people import KEY, Json, Pair, contact_of, is_found

if TYPE_CHECKING:
    from .vendor import Vendor


class Exchange:
    """One request and whatever is done to it. Its body is not read yet."""

    def __init__(self, vendor: Vendor, connection: socket.socket, head: bytes, rest: bytes) -> None:
        self.vendor = vendor
        self.connection = connection
        self.rest = rest
        first_line, *header_lines = head.decode("latin-1").split("\r\n")
        self.target = first_line.split(" ")[1]
        self.headers: dict[str, str] = {}
        for line in header_lines:
            name, _, value = line.partition(":")
            self.headers[name.strip().lower()] = value.strip()
        self.case = self.target.split("/")[1]
        self.script = vendor.script(self.case)
        self.number = vendor.count(self.case)
        self.asked: list[Pair] = []
        self.random = random.Random(f"{self.case} {self.number}")
        self.note("arrived", key=self.has_right_key(), extra=sorted(self.headers))

    def has_right_key(self) -> bool:
        return self.headers.get("x-api-key") == KEY

    def note(self, what: str, **facts: Any) -> None:
        """Write one event into the journal."""
        self.vendor.note(self.case, what=what, request=self.number, time=time.time(), **facts)

    @property
    def match_rate(self) -> float:
        return self.script.get("match_rate", 0.8)

    # What is asked, found and charged

    def read(self) -> None:
        """Read the whole request."""
        if "content-length" not in self.headers:
            # A redirect that was followed as a GET.
            raise ConnectionError("no form came")
        length = int(self.headers["content-length"])
        while len(self.rest) < length:
            piece = self.connection.recv(1 << 20)
            if not piece:
                raise ConnectionError("the request broke off")
            self.rest += piece
        form = parse_qs(self.rest[:length].decode("ascii"), strict_parsing=True)
        query = json.loads(form["query_list"][0])
        self.asked = [(entry["field_type"], entry["value"]) for entry in query]
        self.note("asked", values=self.asked)

    def found(self) -> list[Pair]:
        return [pair for pair in self.asked if is_found(*pair, self.match_rate)]

    def charge(self, pairs: list[Pair] | None = None) -> None:
        """Take the money for those found, durably."""
        self.note("charged", values=self.found() if pairs is None else pairs)

    def read_and_charge(self) -> None:
        self.read()
        self.charge()

    def process(self) -> bytes:
        """Read, charge, and give the whole right reply."""
        self.read_and_charge()
        return self.body()

    def records(self) -> list[Json]:
        found = set(self.found())
        return [
            {"enriched_contact": contact_of(*pair) if pair in found else None, "value": pair[1]}
            for pair in self.asked
        ]

    def body(self, records: list[Json] | None = None, **more: Any) -> bytes:
        records = self.records() if records is None else records
        count = sum(record.get("enriched_contact") is not None for record in records)
        return json.dumps({"contacts": records, "records_enriched": count, **more}).encode()

    # Ways to answer

    def head(self, status: int, *headers: str) -> bytes:
        return "\r\n".join([f"HTTP/1.1 {status} Answer", *headers, "", ""]).encode("utf-8", "surrogateescape")

    def send(self, status: int, *headers: str, body: bytes = b"") -> None:
        """Send these headers and this body, with no header that is not named."""
        self.connection.sendall(self.head(status, *headers) + body)

    def reply(self, status: int, body: bytes, *headers: str, content_type: str = "application/json") -> None:
        """Send a complete reply with the usual headers."""
        usual = (f"Content-Type: {content_type}", f"Content-Length: {len(body)}", "Connection: close")
        self.send(status, *usual, *headers, body=body)

    def reply_json(self, value: Any, status: int = 200) -> None:
        self.reply(status, value if isinstance(value, bytes) else json.dumps(value).encode())

    def reply_page(self, status: int, *headers: str) -> None:
        """Send an error page that quotes the request and its key, as careless frameworks do."""
        quoted = f"{self.headers.get('x-api-key')} {self.asked[:3]}"
        self.reply(
            status,
            f"<html><title>{status}</title><p>{quoted}</p></html>".encode("utf-8", "replace"),
            f"X-Debug: {self.headers.get('x-api-key')}",
            *headers,
            content_type="text/html",
        )

    def reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def linger(self, seconds: float) -> None:
        """Hold the connection open until the other side goes, or the time is up."""
        self.connection.settimeout(0.05)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if not self.connection.recv(1 << 16):
                    return
            except TimeoutError:
                continue
            except OSError:
                return

    def drip(self, pieces: Iterator[bytes], *, pause: float, seconds: float = 30.0) -> None:
        """Send piece by piece, with a pause after each, until the time is up."""
        deadline = time.monotonic() + seconds
        with contextlib.suppress(OSError):
            for piece in pieces:
                if time.monotonic() > deadline:
                    return
                self.connection.sendall(piece)
                if pause:
                    time.sleep(pause)

    def wait_for_gate(self, gate: Path, seconds: float = 60.0) -> None:
        """Wait until somebody has made that file, or the time is up."""
        deadline = time.monotonic() + seconds
        while not gate.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
