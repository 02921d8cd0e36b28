import contextlib
import socket
import threading
import time

from eb_dagster.client import Client, NoReply, Reply


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


def test_a_reset_in_mid_body_is_free():
    def answer(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    reply = client(serve(answer)).send(b"x" * 30_000_000)
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
    def answer(connection: socket.socket) -> None:
        connection.recv(300)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    reply = client(serve(answer)).send(b"x" * 50_000)
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
    assert time.monotonic() - started < 1.8


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
