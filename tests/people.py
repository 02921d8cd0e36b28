"""A vendor that knows people: whoever is asked for by an identifier is answered with the person it is given to."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs


class Vendor:
    """`answers` gives a contact by the value that is asked for; `asked` counts what was."""

    def __init__(self) -> None:
        self.url = ""
        self.answers: dict[str, Mapping[str, Any]] = {}
        self.asked: Counter[str] = Counter()

    def knows(self, contact: Mapping[str, Any], *values: str) -> None:
        """Give this contact to whoever asks for one of these."""
        self.answers |= dict.fromkeys(values, contact)

    @property
    def credits(self) -> int:
        """What was charged: one for each time that somebody was found."""
        return sum(count for value, count in self.asked.items() if value in self.answers)

    def reply(self, form: str) -> bytes:
        values = [one["value"] for one in json.loads(parse_qs(form)["query_list"][0])]
        self.asked.update(values)
        contacts = [{"value": value, "enriched_contact": self.answers.get(value)} for value in values]
        found = sum(value in self.answers for value in values)
        return json.dumps({"contacts": contacts, "records_enriched": found}).encode()


def contact(
    name: str, *, profile: str = "", emails: list[str] | None = None, phones: list[str] | None = None
):
    """A contact as the vendor gives it."""
    return {
        "full_name": name,
        "emails": emails or [],
        "phone_numbers": [{"E164": phone} for phone in phones or []],
        "social_profiles": [{"network": "linkedin", "url": profile}] if profile else [],
    }


@contextmanager
def vendor() -> Iterator[Vendor]:
    """A vendor on this machine, until the end of the block."""
    one = Vendor()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = one.reply(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    one.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield one
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
