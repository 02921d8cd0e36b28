"""Listening ports, opened and shut by orders over a socket."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
import time
from typing import Final

from .people import Json
from .vendor import Vendor

_USUAL_WINDOW: Final = 2**18


class Door:
    """A listening port, and how clients are received before HTTP begins.

    The first so many connections are received in an odd manner.
    """

    def __init__(
        self, vendor: Vendor, *, port: int, manner: str, first: int, certificate: str, name: str
    ) -> None:
        self.vendor = vendor
        self.manner = manner
        self.odd_connections_left = first
        self.name = name
        self.context = _server_context(certificate)
        self.listener = _bound_socket(port)
        if manner == "narrow":
            # A small window, so that a large request is still under way when the server stops.
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        self.port = self.listener.getsockname()[1]
        # Bound and not listening: while the door is shut, connecting is refused and nobody takes the port.
        self.keeper = _bound_socket(self.port)
        self.fillers: list[socket.socket] = []
        self.listener.listen(0 if manner == "deaf" else 512)
        if manner == "deaf":
            self._fill()
        else:
            threading.Thread(target=self._accept, daemon=True).start()

    def _fill(self) -> None:
        """Fill the queue of a listener that accepts nobody, so that connecting times out."""
        for _ in range(3):
            filler = socket.socket(socket.AF_INET)
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(("127.0.0.1", self.port))
            self.fillers.append(filler)
        time.sleep(0.1)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for filler in self.fillers:
            filler.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            if self.manner == "narrow":
                # Through a small window, the next request would take seconds, too.
                self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _USUAL_WINDOW)
            self.vendor.note(self.name, what="connected", time=time.time())
            is_odd = self.odd_connections_left > 0
            self.odd_connections_left -= is_odd
            receive = threading.Thread(
                target=self._receive, args=(connection,), kwargs={"is_odd": is_odd}, daemon=True
            )
            receive.start()

    def _receive(self, connection: socket.socket, *, is_odd: bool) -> None:
        with contextlib.suppress(OSError):
            if self.manner == "cut handshake" and is_odd:
                connection.recv(100)
                connection.close()
                return
            if self.context is not None:
                connection = self.context.wrap_socket(connection, server_side=True)
            self.vendor.serve(connection)


def _server_context(certificate: str) -> ssl.SSLContext | None:
    if not certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def _bound_socket(port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    return bound


class Control:
    """Opens and shuts doors as told: one JSON line for each order, one for each answer."""

    def __init__(self, vendor: Vendor) -> None:
        self.vendor = vendor
        self.open_doors: dict[int, Door] = {}
        # Kept, so that they keep their ports.
        self.shut_doors: list[Door] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self.listener.accept()
            with connection, connection.makefile("rw") as lines:
                try:
                    answer = self._obey(json.loads(lines.readline()))
                except OSError as error:
                    # Without an answer, the client would wait for ever.
                    answer = {"error": str(error)}
                lines.write(json.dumps(answer) + "\n")

    def _obey(self, order: Json) -> Json:
        if order.pop("do") == "open":
            door = Door(self.vendor, **order)
            self.open_doors[door.port] = door
            return {"port": door.port}
        door = self.open_doors.pop(order["port"])
        door.close()
        self.shut_doors.append(door)
        return {}
