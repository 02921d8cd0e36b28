import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from eb_dagster.api.client import Client
from eb_dagster.api.connections import MOST_INTERIM_ANSWERS
from eb_dagster.api.outcome import judge
from eb_dagster.api.reply import NoReply, Reply
from tests.busy import allowed


def serve(answer) -> str:
    """A server for one connection; `answer` gets the socket."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        connection, _ = listener.accept()
        with connection, listener:
            answer(connection)

    threading.Thread(target=run, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


def read_all(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
    )
    while len(body) < length:
        body += connection.recv(65536)
    return head


def client(url: str, timeout: float = 3.0) -> Client:
    return Client(base_url=url, api_key="k", timeout=timeout)


def test_a_refused_connection_is_free():
    assert client("http://127.0.0.1:9").send(b"x") == NoReply(False, "ConnectionError")


def test_threads_that_send_first_share_what_sends():
    opened = client("http://127.0.0.1:9")
    with ThreadPoolExecutor(8) as pool:
        together = threading.Barrier(8)
        made = list(pool.map(lambda _: (together.wait(20), opened.open())[1], range(8)))
    assert len({id(connections) for connections in made}) == 1


def resetting(received_bytes: int) -> Callable[[socket.socket], None]:
    """A server that resets the connection after so many bytes of a request."""

    def answer(connection: socket.socket) -> None:
        connection.recv(received_bytes)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    return answer


def test_a_reset_in_mid_body_is_free():
    reply = client(serve(resetting(1000))).send(b"x" * 30_000_000)
    assert isinstance(reply, NoReply)
    assert not reply.request_left


def test_a_server_that_answers_and_hangs_up_in_mid_request_leaves_nothing_in_doubt():
    def answer(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        time.sleep(0.5)

    reply = client(serve(answer)).send(b"x" * 50_000)
    assert isinstance(reply, Reply)
    assert (reply.status, reply.request_left) == (503, False)


def test_a_server_that_hangs_up_in_a_small_request_leaves_nothing_in_doubt():
    reply = client(serve(resetting(300))).send(b"x" * 50_000)
    assert isinstance(reply, NoReply)
    assert not reply.request_left


def test_a_server_that_stops_reading_leaves_nothing_in_doubt():
    def answer(connection: socket.socket) -> None:
        connection.recv(300)
        time.sleep(2.0)

    reply = client(serve(answer), timeout=1.0).send(b"x" * 4_000_000)
    assert isinstance(reply, NoReply)
    assert not reply.request_left


def test_a_malformed_header_is_in_no_log(caplog):
    def answer(connection: socket.socket) -> None:
        read_all(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncanary jane@firm.example\r\nContent-Length: 0\r\n\r\n")

    caplog.set_level(0)
    client(serve(answer)).send(b"x=1")
    assert "canary" not in caplog.text


@pytest.mark.parametrize("name", ["urllib3.connection", "urllib3.connectionpool"])
def test_what_others_have_to_log_is_let_through(caplog, name):
    client(serve(read_all)).send(b"x=1")
    logging.getLogger(name).warning("of another library's request")
    assert "of another library's request" in caplog.text


def test_a_connection_whose_tls_breaks_is_not_opened_again_without_the_run():
    opened: list[int] = []

    def serve_all(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                opened.append(1)
                with connection:
                    # No record of TLS.
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    connection.recv(65_536)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve_all, args=(listener,), daemon=True).start()
        reply = client(f"https://127.0.0.1:{listener.getsockname()[1]}").send(b"x=1")
        listener.shutdown(socket.SHUT_RDWR)
    assert reply == NoReply(False, "the TLS connection broke")
    assert len(opened) == 1


def test_a_request_that_is_over_leaves_no_timer_behind():
    reply = client(say(PAID), timeout=30).send(b"x=1")
    assert judge(reply) == "answered"
    assert not [
        thread
        for thread in threading.enumerate()
        if isinstance(thread, threading.Timer) and not thread.finished.is_set()
    ]


def test_an_abort_cuts_what_is_open_and_what_is_cut_is_in_doubt():
    is_there, is_over = threading.Event(), threading.Event()

    def answer(connection: socket.socket) -> None:
        read_all(connection)
        is_there.set()
        is_over.wait(30)

    opened = client(serve(answer), timeout=30)
    threading.Thread(target=lambda: is_there.wait(30) and opened.abort(), daemon=True).start()
    started = time.monotonic()
    reply = opened.send(b"x=1")
    is_over.set()
    assert judge(reply) == "doubt"
    assert time.monotonic() - started < 15


def test_silence_after_the_whole_request_is_in_doubt():
    reply = client(serve(read_all)).send(b"x=1")
    assert isinstance(reply, NoReply)
    assert reply.request_left


def test_a_drip_of_headers_is_cut_off_at_the_deadline():
    def answer(connection: socket.socket) -> None:
        read_all(connection)
        with contextlib.suppress(OSError):
            for _ in range(60):
                connection.sendall(b"H")
                time.sleep(0.1)

    started = time.monotonic()
    reply = client(serve(answer), timeout=0.8).send(b"x=1")
    assert isinstance(reply, NoReply)
    assert reply.request_left
    assert time.monotonic() - started < allowed(1.8, at_most=4)


def test_a_redirect_is_not_followed_and_a_cut_reply_is_kept():
    def redirect(connection: socket.socket) -> None:
        read_all(connection)
        connection.sendall(b"HTTP/1.1 307 X\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n")

    def cut(connection: socket.socket) -> None:
        read_all(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

    moved = client(serve(redirect)).send(b"x=1")
    assert isinstance(moved, Reply)
    assert moved.status == 307
    torn = client(serve(cut)).send(b"x=1")
    assert isinstance(torn, Reply)
    assert (torn.body, torn.complete, torn.request_left) == (b"half", False, True)


HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\nRetry-After: 9\r\nContent-Length: 7\r\n\r\n"
PAID = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npaid"


def say(*pieces: bytes, then_silence: float = 0.0):
    def answer(connection: socket.socket) -> None:
        read_all(connection)
        with contextlib.suppress(OSError):
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(0.02)
            time.sleep(then_silence)

    return serve(answer)


@pytest.mark.parametrize(
    "before",
    [
        pytest.param([HINTS], id="103 with headers"),
        pytest.param([b"HTTP/1.1 102 Processing\r\n\r\n"], id="102"),
        pytest.param([b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 102 Wait\r\n\r\n" * 3, HINTS, HINTS], id="several"),
        pytest.param([b"HTTP/1.1 199 Whatever\r\nContent-Encoding: gzip\r\n\r\n"], id="one that nobody knows"),
        pytest.param([HINTS[:30], HINTS[30:] + PAID[:9]], id="in pieces"),
    ],
)  # fmt: skip
def test_the_answer_behind_interim_ones_is_read(before: list[bytes]):
    rest = PAID[9:] if before[-1].endswith(PAID[:9]) else PAID
    reply = client(say(*before, rest)).send(b"x=1")
    assert reply == Reply(200, b"paid", "", complete=True, request_left=True, retry_after=None)


def test_silence_after_an_interim_answer_is_in_doubt_at_the_deadline():
    started = time.monotonic()
    reply = client(say(HINTS, then_silence=5.0), timeout=0.8).send(b"x=1")
    assert isinstance(reply, NoReply)
    assert reply.request_left
    assert time.monotonic() - started < allowed(1.8, at_most=4)


def test_a_connection_closed_after_an_interim_answer_is_in_doubt():
    for last in (HINTS, HINTS[:20]):
        reply = client(say(HINTS, last)).send(b"x=1")
        assert isinstance(reply, NoReply)
        assert reply.request_left


def test_switching_protocols_is_a_final_answer_that_answers_nothing():
    reply = client(say(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n", PAID)).send(b"x=1")
    assert isinstance(reply, Reply)
    assert (reply.status, reply.body, reply.request_left) == (101, b"", True)
    assert judge(reply) == "doubt"


@pytest.mark.parametrize("interim", [HINTS, b"HTTP/1.1 100 Continue\r\n\r\n"], ids=["103", "100"])
def test_interim_answers_without_end_are_in_doubt(interim: bytes):
    def answer(connection: socket.socket) -> None:
        read_all(connection)
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(interim * 20)
                time.sleep(0.005)

    started = time.monotonic()
    outcome = client(serve(answer), timeout=1.0).send(b"x=1")
    assert judge(outcome) == "doubt"
    assert time.monotonic() - started < allowed(2.0, at_most=4)


def test_so_many_interim_answers_are_read_and_no_more():
    enough = client(say(HINTS * MOST_INTERIM_ANSWERS + PAID)).send(b"x=1")
    too_many = client(say(HINTS * (MOST_INTERIM_ANSWERS + 1) + PAID)).send(b"x=1")
    assert (judge(enough), judge(too_many)) == ("answered", "doubt")


@pytest.mark.parametrize(
    ("header", "date"),
    [
        (b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", 784111777.0),
        (b"date: Sunday, 06-Nov-94 08:49:37 GMT\r\n", 784111777.0),
        (b"Date: Sun Nov  6 08:49:37 1994\r\n", 784111777.0),
        (b"Date: Sun, 06 Nov 1994 09:49:37 +0100\r\n", 784111777.0),
        (b"Date: Sun, 99 Nov 99999999 08:49:37 GMT\r\n", None),
        (b"Date: Sun, 06 Nov 1994 08:49:37 +9999999999\r\n", None),
        (b"Date: yesterday\r\n", None),
        (b"Date:\r\n", None),
        (b"", None),
    ],
)  # fmt: skip
def test_a_reply_tells_the_clock_of_the_server(header: bytes, date: float | None):
    reply = client(say(b"HTTP/1.1 200 OK\r\n" + header + b"Content-Length: 0\r\n\r\n")).send(b"x=1")
    assert isinstance(reply, Reply)
    assert reply.date == date
