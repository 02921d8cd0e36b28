"""Listen on a socket, and end a connection without a word where a fault asks for it."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import selectors
import socket
import struct
import threading
import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Final

from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

if TYPE_CHECKING:
    import flask

_LONGEST_SILENCE: Final = 60.0
_POLL_SECONDS: Final = 0.02


class ResetConnection(ConnectionError):
    """Raised by the application to reset the connection without a reply."""


@contextlib.contextmanager
def listening(host: str, port: int, app: flask.Flask) -> Generator[BaseWSGIServer]:
    """Serve the application in threads of this process for as long as the context lasts."""
    _check_port_is_free(host, port)
    server = make_server(host, port, app, threaded=True, request_handler=_RequestHandler)
    # The interval is short because tests start and stop many servers.
    serve = functools.partial(server.serve_forever, poll_interval=_POLL_SECONDS)
    thread = threading.Thread(target=serve, name="sandbox", daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def wait_until_client_leaves(connection: socket.socket, stopped: threading.Event) -> None:
    """Keep silent until the client closes, the sandbox stops or a minute is over."""
    deadline = time.monotonic() + _LONGEST_SILENCE
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        while time.monotonic() < deadline and not stopped.wait(_POLL_SECONDS):
            if selector.select(timeout=0) and not _has_more(connection):
                return


def _has_more(connection: socket.socket) -> bool:
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except OSError:
        return False


def _check_port_is_free(host: str, port: int) -> None:
    """Raise an `OSError` that says what to do. Werkzeug would end the process."""
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise OSError(
            errno.EADDRINUSE,
            f"port {port} is taken, most likely by a sandbox that runs already: use that, stop it, or choose another port",
        ) from None


class _RequestHandler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002 - as inherited
        """Say nothing: a log of requests may be a log of people."""

    def connection_dropped(self, error: BaseException, environ: object = None) -> None:  # noqa: ARG002 - as inherited
        self.close_connection = True
        if isinstance(error, ResetConnection):
            _reset(self.connection)


def _reset(connection: socket.socket) -> None:
    # Lingering for 0 seconds makes closing a reset. The socket is detached because the server would
    # first end the connection in order.
    # On Windows, the two numbers are short ones.
    numbers = "hh" if os.name == "nt" else "ii"
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack(numbers, 1, 0))
    socket.close(connection.detach())
