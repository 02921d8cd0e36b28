"""A stand-in for the API that answers with prepared replies, in a process of its own.

It bills nothing and checks nothing: it is only there to be faster than what is measured.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.payloads import Template, lead, make_template
from tests.faults.certificates import make_certificates

_LEAD: Final = re.compile(lead(0).partition("0")[0].encode() + rb"\d+(?=%40)")
_DOMAIN: Final = lead(0).partition("@")[2].encode()
_LENGTH: Final = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_GZIP: Final = re.compile(rb"accept-encoding:[^\r]*gzip", re.IGNORECASE)


class _Handler(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            link = self.server.secure(self.request)
            while self._answer(link):
                pass
            if isinstance(link, ssl.SSLSocket):
                link.unwrap()

    def _answer(self, link: socket.socket) -> bool:
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0:
            piece = link.recv(1 << 16)
            if not piece:
                return False
            data += piece
        head, body = data[:end], bytearray(data[end + 4 :])
        if head.startswith(b"GET /arrivals"):
            self._send(link, json.dumps(self.server.arrivals).encode(), b"")
            return False
        found = _LENGTH.search(head)
        length = int(found[1]) if found else 0
        while len(body) < length:
            body += link.recv(1 << 20)
        self.server.arrivals.append(time.monotonic())
        echoes = [name + b"@" + _DOMAIN for name in _LEAD.findall(body)]
        # The same leads get the same contacts, whoever asks for them.
        template = self.server.templates[zlib.crc32(echoes[0]) % len(self.server.templates)]
        encoding = b""
        if self.server.gzip and _GZIP.search(head):
            reply = template.reply_gzip(echoes)
            encoding = b"Content-Encoding: gzip\r\n"
        else:
            reply = template.reply(echoes)
        time.sleep(self.server.latency)
        self._send(link, reply, encoding)
        return b"connection: close" not in head.lower()

    def _send(self, link: socket.socket, body: bytes, encoding: bytes) -> None:
        link.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n%b"
            % (encoding, len(body), body)
        )


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, templates: list[Template], *, gzip: bool, latency: float, context: Any) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.arrivals: list[float] = []
        self.templates, self.gzip, self.latency, self._context = templates, gzip, latency, context

    def secure(self, link: socket.socket) -> socket.socket:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return link if self._context is None else self._context.wrap_socket(link, server_side=True)


@dataclass(frozen=True, slots=True)
class Running:
    """A server in a process of its own, and the authority of its certificate, if it has one."""

    url: str
    authority: Path | None

    @property
    def endpoint(self) -> str:
        return self.url + "/v1/bulk-enrich"

    @property
    def trust(self) -> dict[str, str]:
        """What a process has in its environment to trust it."""
        if self.authority is None:
            return {}
        return {"SSL_CERT_FILE": str(self.authority), "REQUESTS_CA_BUNDLE": str(self.authority)}

    def arrivals(self) -> list[float]:
        """When each request had arrived, in seconds."""
        context = ssl.create_default_context(cafile=self.authority) if self.authority else None
        with urllib.request.urlopen(self.url + "/arrivals", context=context) as reply:
            return json.load(reply)


@contextlib.contextmanager
def running(
    folder: Path, *, gzip: bool = True, tls: bool = False, latency: float = 0.0, templates: int = 4
) -> Iterator[Running]:
    """Start a server; it ends with the block."""
    certificates = make_certificates(folder) if tls else {}
    process = subprocess.Popen(
        [
            sys.executable, "-m", "tests.benchmarks.server", str(int(gzip)), str(latency), str(templates),
            *([str(certificates["good"])] if tls else []),
        ],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        port = int(process.stdout.readline())
        yield Running(f"http{'s' if tls else ''}://127.0.0.1:{port}", certificates.get("authority"))
    finally:
        # It ends when its input does, which is also the case when this process is killed.
        process.communicate()


def _main(gzip: str, latency: str, templates: str, certificate: str | None = None) -> None:
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    made = [make_template(seed) for seed in range(int(templates))]
    with _Server(made, gzip=gzip == "1", latency=float(latency), context=context) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(server.server_address[1], flush=True)
        sys.stdin.read()
        server.shutdown()


if __name__ == "__main__":
    _main(*sys.argv[1:])
