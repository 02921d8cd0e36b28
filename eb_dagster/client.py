"""Send one partition. The only file that opens a socket."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import ssl
import sys
import threading
import time
from array import array
from collections.abc import Callable, Generator, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from http.client import HTTPResponse
from io import BytesIO
from time import monotonic
from typing import Any, Final, Literal, cast

import certifi
import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from eb_dagster.errors import ConfigError
from eb_dagster.wire import CONTENT_TYPE, PATH

CONNECT_SECONDS: Final = 10.0
# A reply of 1000 contacts is some 2 MB; thirty times that is an accident or an attack.
MOST_WIRE_BYTES: Final = 64 * 2**20
MOST_INTERIM_ANSWERS: Final = 100
_PIECE: Final = 64 * 2**10
# So long at least is the last byte held back, so that a server that refuses, hangs up or stops
# reading in mid-request is noticed while the request is still incomplete, and so free.
_HELD_BACK_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, as it came. `complete` is false when it broke off or was cut off."""

    status: int
    body: bytes = field(repr=False)
    encoding: str
    complete: bool
    request_left: bool
    retry_after: str | None
    date: str | None = None


@dataclass(frozen=True, slots=True)
class NoReply:
    """Nothing came back. If the whole request had left, it may have been paid for."""

    request_left: bool
    reason: str


class Client:
    """Posts forms to the bulk endpoint, each once. Safe to use from many threads."""

    def __init__(self, *, base_url: str, api_key: str, timeout: float) -> None:
        self.url = base_url + PATH
        self._timeout = timeout
        self._headers = {
            "X-API-Key": api_key,
            "Content-Type": CONTENT_TYPE,
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            # A kept connection may be closed by the server just as we send, and then nobody knows
            # whether the request was read. A fresh one cannot.
            "Connection": "close",
        }
        self._trust: ssl.SSLContext | None = None
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()

    def send(self, form: bytes) -> Reply | NoReply:
        """Post one form, once, within the deadline.

        Raises `ConfigError` when the server's certificate cannot be trusted.
        """
        opened: list[socket.socket] = []
        body = _Form(form, peer=lambda: _peer_of(opened[-1]) if opened else "ready")
        try:
            session = _session(self._trusted())
            with self._deadline(opened) as deadline:
                response = session.post(
                    self.url,
                    # requests streams what it can iterate over; its stubs ask for less than that.
                    data=body,
                    headers=self._headers,
                    stream=True,
                    allow_redirects=False,
                    timeout=(min(CONNECT_SECONDS, self._timeout), self._timeout),
                )
                return _receive(response, request_left=body.left, deadline=deadline)
        except requests.exceptions.SSLError as error:
            if _is_bad_certificate(error):
                raise ConfigError(
                    f"the certificate of {self.url} cannot be trusted, so the key and the people stayed "
                    "here. Check base_url; for a certificate of your own, set SSL_CERT_FILE to its file"
                ) from None
            return NoReply(body.left, "the TLS connection broke")
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            # The name of the error only: its text may quote the request.
            return NoReply(body.left, type(error).__name__)

    def _trusted(self) -> ssl.SSLContext | None:
        # Reading the certificates takes longer than a request does: once is enough, for who sends.
        with self._lock:
            if self._trust is None and self.url.startswith("https:"):
                self._trust = _trusted_certificates()
            return self._trust

    def abort(self) -> None:
        """Cut every connection that is open. What is cut off is in doubt."""
        with self._lock:
            for one in self._sockets:
                _cut(one)

    @contextlib.contextmanager
    def _deadline(self, opened: list[socket.socket]) -> Generator[float]:
        """Cut the connection when time is up: a drip of bytes outlives any socket timeout."""
        token = _OPENED.set(_Opened(opened, self._sockets, self._lock))
        # Before the timer starts: what ends because it cut must not pass for what ended in time.
        deadline = monotonic() + self._timeout
        timer = threading.Timer(self._timeout, lambda: [_cut(one) for one in opened])
        timer.daemon = True
        timer.start()
        try:
            yield deadline
        finally:
            timer.cancel()
            _OPENED.reset(token)
            with self._lock:
                self._sockets.difference_update(opened)
            for one in opened:
                one.close()


class _Form:
    """A request body that knows when all of it was handed to the socket.

    urllib3 asks for the next piece only after the socket took the one before, so whoever is asked
    when nothing remains knows that everything left. Exception types do not tell: one and the same
    stands for "refused" and for "charged, then reset".
    """

    def __init__(self, data: bytes, *, peer: Callable[[], str]) -> None:
        self._data = memoryview(data)
        self._peer = peer
        self.left = False

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[bytes]:
        last = max(len(self._data) - 1, 0)
        for start in range(0, last, _PIECE):
            yield bytes(self._data[start : min(start + _PIECE, last)])
        time.sleep(_HELD_BACK_SECONDS)
        while (peer := self._peer()) == "behind":
            time.sleep(_HELD_BACK_SECONDS / 10)
        # Without its last byte nobody can act on the request; what came back is read all the same.
        if peer != "gone":
            yield bytes(self._data[last:])
            self.left = True


def _peer_of(one: socket.socket) -> Literal["ready", "behind", "gone"]:
    """How far the other side is: has it taken all that was sent, or hung up? Told by Linux only."""
    if sys.platform != "linux":
        return "ready"
    import fcntl
    import termios

    closed, half_closed = 7, 8
    try:
        state = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        if state in (closed, half_closed):
            return "gone"
        unacknowledged = array("i", [0])
        fcntl.ioctl(one.fileno(), termios.TIOCOUTQ, unacknowledged)
    except OSError:
        return "gone"
    return "behind" if unacknowledged[0] > 0 else "ready"


@dataclass(frozen=True, slots=True)
class _Opened:
    """Where a new connection reports its socket."""

    mine: list[socket.socket]
    everyone: set[socket.socket]
    lock: threading.Lock

    def add(self, one: Any) -> None:
        if isinstance(one, socket.socket):
            with self.lock:
                self.mine.append(one)
                self.everyone.add(one)


_OPENED: ContextVar[_Opened | None] = ContextVar("_OPENED", default=None)


def _report(one: Any) -> None:
    if opened := _OPENED.get():
        opened.add(one)


def _hide_our_headers(record: logging.LogRecord) -> bool:
    """Let no warning about a malformed header through: it quotes it, and it may quote people."""
    return _OPENED.get() is None or record.levelno < logging.WARNING


for _name in ("urllib3.connection", "urllib3.connectionpool"):
    logging.getLogger(_name).addFilter(_hide_our_headers)


class _Final(HTTPResponse):
    """The answer behind the interim ones, of which http.client skips `100 Continue` alone.

    The deadline holds for all of them together. `101 Switching Protocols` is final: no HTTP follows it.
    """

    def begin(self) -> None:
        super().begin()
        for _ in range(MOST_INTERIM_ANSWERS):
            if not 100 <= self.status < 200 or self.status == 101:
                return
            # As before the first one, which is how http.client knows that nothing was read yet.
            self.headers = self.msg = cast(Any, None)
            super().begin()


class _Plain(HTTPConnection):
    response_class = _Final

    def connect(self) -> None:
        super().connect()
        _report(self.sock)


class _Secure(HTTPSConnection):
    response_class = _Final

    def connect(self) -> None:
        super().connect()
        _report(self.sock)


class _PlainPool(HTTPConnectionPool):
    # pyright refuses urllib3's own HTTPConnection there too: its protocol's members are mutable.
    ConnectionCls = cast(Any, _Plain)


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = cast(Any, _Secure)


class _Adapter(HTTPAdapter):
    def __init__(self, trust: ssl.SSLContext | None) -> None:
        self._trust = trust
        super().__init__(max_retries=urllib3.Retry(0, redirect=False, read=False))

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=self._trust)
        self.poolmanager.pool_classes_by_scheme = {"http": _PlainPool, "https": _SecurePool}

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        # The context has the certificates; requests would read them from disk for each request.
        del url, verify, cert
        conn.cert_reqs = "CERT_REQUIRED"


def _trusted_certificates() -> ssl.SSLContext:
    # The system's (with OpenSSL's own SSL_CERT_FILE), certifi's, and what requests' users name.
    trust = ssl.create_default_context()
    trust.load_verify_locations(cafile=certifi.where())
    if named := os.environ.get("REQUESTS_CA_BUNDLE"):
        try:
            folder = os.path.isdir(named)  # noqa: PTH112 - a text, as ssl takes it
            trust.load_verify_locations(**{"capath" if folder else "cafile": named})
        except OSError:
            raise ConfigError(
                "REQUESTS_CA_BUNDLE names no file or folder of certificates; set it to one, or unset it"
            ) from None
    return trust


def _session(trust: ssl.SSLContext | None) -> requests.Session:
    session = requests.Session()
    # No .netrc and no proxy from the environment: the key and the people go to one host only.
    session.trust_env = False
    session.headers.clear()
    adapter = _Adapter(trust)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def _receive(response: requests.Response, *, request_left: bool, deadline: float) -> Reply:
    body = BytesIO()
    complete = False
    # What came before the connection broke is kept: whole contacts in it were paid for.
    with contextlib.suppress(urllib3.exceptions.HTTPError, OSError):
        while body.tell() <= MOST_WIRE_BYTES and monotonic() < deadline:
            # urllib3 documents read1; requests' stubs do not know it.
            piece: bytes = response.raw.read1(_PIECE, decode_content=False)
            if not piece:
                complete = monotonic() < deadline
                break
            body.write(piece)
    response.close()
    return Reply(
        status=response.status_code,
        body=body.getvalue(),
        encoding=response.headers.get("Content-Encoding", ""),
        complete=complete,
        request_left=request_left,
        retry_after=response.headers.get("Retry-After"),
        date=response.headers.get("Date"),
    )


def _cut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        # Not SSLSocket.shutdown, which takes the TLS state away under the thread that reads.
        socket.socket.shutdown(one, socket.SHUT_RDWR)


def _is_bad_certificate(error: BaseException | None) -> bool:
    seen: set[int] = set()
    pending: list[Any] = [error]
    while pending:
        one = pending.pop()
        if isinstance(one, ssl.SSLCertVerificationError | ssl.CertificateError):
            return True
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            pending += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]
    return False
