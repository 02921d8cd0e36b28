"""Send a request, once. The only file that opens a socket, and that loads requests."""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import ssl
import sys
import threading
import time
from array import array
from collections.abc import Callable, Generator, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from io import BytesIO
from time import monotonic
from typing import Any, Final, Literal

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import get_auth_from_url
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from eb_dagster.api.certificates import trusted_certificates
from eb_dagster.api.rate_limit import read_date
from eb_dagster.api.reply import NoReply, Reply
from eb_dagster.errors import ConfigError

CONNECT_SECONDS: Final = 10.0
# A reply of 1000 contacts is some 2 MB; thirty times that is an accident or an attack.
MOST_WIRE_BYTES: Final = 64 * 2**20
MOST_INTERIM_ANSWERS: Final = 100
_PIECE_BYTES: Final = 64 * 2**10
# The last byte is held back for at least so long, so that a server that refuses, hangs up or stops
# reading in mid-request is noticed while the request is still incomplete, and so free.
_HELD_BACK_SECONDS: Final = 0.02
_ERRORS: Final = (requests.RequestException, urllib3.exceptions.HTTPError, HTTPException, OSError)


class Connections:
    """Sends to one address, over a new connection each time. Safe to use from many threads."""

    def __init__(
        self,
        *,
        url: str,
        headers: dict[str, str],
        timeout: float,
        proxies: dict[str, str],
        ca_bundle: str | None,
    ) -> None:
        self._url = url
        # The server may close a kept connection just as we send, and then nobody knows whether
        # the request was read. That cannot happen to a fresh one.
        self._headers = {**headers, "Connection": "close"}
        self._timeout = timeout
        self._proxies = proxies
        self._ca_bundle = ca_bundle
        self._trust: ssl.SSLContext | None = None
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()

    def post(self, form: bytes) -> Reply | NoReply:
        """Post a form, within the deadline. Raises `ConfigError` for what trying again does not change."""
        opened: list[socket.socket] = []
        body = _Form(form, read_peer_state=lambda: _peer_state(opened[-1]) if opened else "ready")
        try:
            session = _session(self._trusted())
            with self._deadline(opened) as deadline:
                response = session.post(
                    self._url,
                    # requests streams what it can iterate over; its stubs ask for less than that.
                    data=body,
                    headers=self._headers,
                    stream=True,
                    allow_redirects=False,
                    proxies=self._proxies,
                    timeout=(min(CONNECT_SECONDS, self._timeout), self._timeout),
                )
                return _receive(response, request_left=body.left, deadline=deadline)
        except _ERRORS as error:
            return NoReply(body.left, self._reason(error))

    def head(self, url: str) -> Reply | NoReply:
        """Ask a page of that address for its header, without key or people. Raises as `post` does."""
        opened: list[socket.socket] = []
        try:
            session = _session(self._trusted())
            with self._deadline(opened) as deadline:
                response = session.head(
                    url,
                    headers={"Connection": "close"},
                    stream=True,
                    allow_redirects=False,
                    proxies=self._proxies,
                    timeout=min(CONNECT_SECONDS, self._timeout),
                )
                return _receive(response, request_left=True, deadline=deadline)
        except _ERRORS as error:
            return NoReply(False, self._reason(error))

    def _reason(self, error: Exception) -> str:
        """What went wrong, without its text, which may quote the request.

        Raises `ConfigError` for what trying again does not change.
        """
        causes = list(_causes(error))
        if any(isinstance(cause, ssl.SSLCertVerificationError | ssl.CertificateError) for cause in causes):
            raise ConfigError(
                f"the certificate of {self._url} cannot be trusted, so the key and the people stayed here. Check "
                "base_url; for a certificate of your own, or a proxy that looks into TLS, name the PEM file of "
                "its authority in ca_bundle"
            ) from None
        if (status := _refused_by_proxy(causes)) is not None:
            _check_proxy_status(status)
            return f"the proxy answered HTTP {status}"
        if isinstance(error, requests.exceptions.SSLError):
            return "the TLS connection broke"
        if isinstance(error, requests.exceptions.ProxyError):
            return "the proxy cannot be reached"
        return type(error).__name__

    def _trusted(self) -> ssl.SSLContext | None:
        # Reading the certificates takes longer than a request, so it is done once.
        with self._lock:
            if self._trust is None and self._url.startswith("https:"):
                self._trust = trusted_certificates(self._ca_bundle)
            return self._trust

    def abort(self) -> None:
        """Cut every connection that is open. What is cut off is in doubt."""
        with self._lock:
            for connection in self._sockets:
                _cut(connection)

    @contextlib.contextmanager
    def _deadline(self, opened: list[socket.socket]) -> Generator[float]:
        """Cut the connection when time is up: a drip of bytes outlives any socket timeout."""
        token = _OPENED.set(_Opened(opened, self._sockets, self._lock))
        # Taken before the timer starts, so that a reply which the timer cut off never looks as if it
        # had ended in time.
        deadline = monotonic() + self._timeout
        timer = threading.Timer(self._timeout, lambda: [_cut(connection) for connection in opened])
        timer.daemon = True
        timer.start()
        try:
            yield deadline
        finally:
            timer.cancel()
            _OPENED.reset(token)
            with self._lock:
                self._sockets.difference_update(opened)
            for connection in opened:
                connection.close()


def _check_proxy_status(status: int) -> None:
    """Raise `ConfigError` if the proxy will refuse again."""
    if not 400 <= status < 500 or status in (408, 429):
        return
    advice = "ask whoever runs it to let this machine reach the API, or set another proxy"
    if status == 407:
        advice = (
            "put its user name and password into the proxy's address, as in http://user:password@host:port"
        )
    raise ConfigError(f"the proxy refused to connect to the API (HTTP {status}); {advice}") from None


_PeerState = Literal["ready", "behind", "gone"]


class _Form:
    """A request body that knows when all of it was handed to the socket.

    urllib3 asks for the next piece only after the socket took the one before. When it asks and nothing
    remains, everything has left. Exception types do not tell: the same one stands for "refused" and for
    "charged, then reset".
    """

    def __init__(self, data: bytes, *, read_peer_state: Callable[[], _PeerState]) -> None:
        self._data = memoryview(data)
        self._read_peer_state = read_peer_state
        self.left = False

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[bytes]:
        last = max(len(self._data) - 1, 0)
        for start in range(0, last, _PIECE_BYTES):
            yield bytes(self._data[start : min(start + _PIECE_BYTES, last)])
        time.sleep(_HELD_BACK_SECONDS)
        while (peer_state := self._read_peer_state()) == "behind":
            time.sleep(_HELD_BACK_SECONDS / 10)
        # Without its last byte nobody can act on the request; what came back is read all the same.
        if peer_state != "gone":
            yield bytes(self._data[last:])
            self.left = True


def _peer_state(connection: socket.socket) -> _PeerState:
    """Whether the other side has taken all that was sent, or hung up. Only Linux tells."""
    if sys.platform != "linux":
        return "ready"
    import fcntl
    import termios

    closed, half_closed = 7, 8
    try:
        state = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        if state in (closed, half_closed):
            return "gone"
        unacknowledged = array("i", [0])
        fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, unacknowledged)
    except OSError:
        return "gone"
    return "behind" if unacknowledged[0] > 0 else "ready"


@dataclass(frozen=True, slots=True)
class _Opened:
    """Where a new connection reports its socket."""

    of_request: list[socket.socket]
    of_client: set[socket.socket]
    lock: threading.Lock

    def add(self, connection: socket.socket) -> None:
        with self.lock:
            self.of_request.append(connection)
            self.of_client.add(connection)


_OPENED: ContextVar[_Opened | None] = ContextVar("_OPENED", default=None)


def _reported(connection: socket.socket) -> socket.socket:
    """The socket, after a second handle of it is reported: TLS takes the first one away."""
    if opened := _OPENED.get():
        opened.add(connection.dup())
    return connection


def _hide_our_headers(record: logging.LogRecord) -> bool:
    """Drop warnings about malformed headers of ours: they quote the header, which may quote people."""
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
            # None, as before the first answer, tells http.client that nothing was read yet.
            vars(self).update(headers=None, msg=None)
            super().begin()


# A socket is reported as soon as there is one, before a proxy or TLS can make it wait.
class _Plain(HTTPConnection):
    response_class = _Final

    def _new_conn(self) -> socket.socket:
        return _reported(super()._new_conn())


class _Secure(HTTPSConnection):
    response_class = _Final

    def _new_conn(self) -> socket.socket:
        return _reported(super()._new_conn())


# pyright refuses urllib3's own connections there, too: their protocol's members are mutable.
_plain_connection: Any = _Plain
_secure_connection: Any = _Secure


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _plain_connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _secure_connection


_POOLS: Final = {"http": _PlainPool, "https": _SecurePool}


class _Adapter(HTTPAdapter):
    def __init__(self, trust: ssl.SSLContext | None) -> None:
        self._trust = trust
        super().__init__(max_retries=urllib3.Retry(0, redirect=False, read=False))

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=self._trust)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs, ssl_context=self._trust)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def proxy_headers(self, proxy: str) -> dict[str, str]:
        user, password = get_auth_from_url(proxy)
        if not user and not password:
            return {}
        # They are sent as UTF-8 (RFC 7617), where requests knows Latin-1 only.
        credentials = f"{user}:{password}".encode().decode("latin-1")
        return urllib3.make_headers(proxy_basic_auth=credentials)

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        # The context has the certificates; requests would read them from disk for each request.
        del url, verify, cert
        conn.cert_reqs = "CERT_REQUIRED"


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
            # urllib3 documents `read1`, which the stubs of requests do not know.
            piece: bytes = response.raw.read1(_PIECE_BYTES, decode_content=False)
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
        date=read_date(response.headers.get("Date")),
    )


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and all that led to it."""
    seen: set[int] = set()
    pending: list[Any] = [error]
    while pending:
        cause = pending.pop()
        if isinstance(cause, BaseException) and id(cause) not in seen:
            seen.add(id(cause))
            pending += [cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args]
            yield cause


# http.client tells the status in words only.
_TUNNEL_REFUSED: Final = re.compile(r"Tunnel connection failed: (\d{3})\b")


def _refused_by_proxy(causes: Iterable[BaseException]) -> int | None:
    """The status with which a proxy refused to connect, if that is what happened."""
    for cause in causes:
        if type(cause) is OSError and (refusal := _TUNNEL_REFUSED.match(str(cause))):
            return int(refusal[1])
    return None
