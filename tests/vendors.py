"""An API whose replies are written by the test."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

Reply = Callable[[list[str]], Any]


class Vendor:
    """Its address, and the values and the headers of each request."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[list[str]] = []
        self.heads: list[str] = []


@contextlib.contextmanager
def answering(
    reply: Reply,
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
    certificate: Path | None = None,
    host: str = "127.0.0.1",
) -> Iterator[Vendor]:
    """Answer each request with what `reply` makes of the values asked: an object, or bytes as they are."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(length := int(self.headers["Content-Length"]))
            if len(raw) < length:
                return
            form = parse_qs(raw.decode())
            asked = [entry["value"] for entry in json.loads(form["query_list"][0])]
            vendor.asked.append(asked)
            vendor.heads.append(str(self.headers))
            body = reply(asked)
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def do_CONNECT(self) -> None:
            """Answer as a proxy."""
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda request, client_address: None  # noqa: ARG005 - they have names
    vendor = Vendor(f"http{'s' if certificate else ''}://{host}:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield vendor
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def records(*entries: dict[str, Any], count: Any = None, **beside: Any) -> dict[str, Any]:
    """A reply of these entries, which counts as enriched those that hold a contact."""
    found = sum(bool(entry.get("enriched_contact")) for entry in entries)
    return {"contacts": [*entries], "records_enriched": found if count is None else count, **beside}
