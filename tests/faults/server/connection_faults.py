"""The request or the reply is lost on the way, or a status comes in place of the reply."""

from __future__ import annotations

import contextlib
import time

from .exchange import Exchange
from .people import is_found
from .registry import fault


@fault
def none(exchange: Exchange) -> None:
    exchange.reply_json(exchange.process())


# While the request leaves


@fault
def reset_in_mid_body(exchange: Exchange) -> None:
    exchange.connection.recv(1000)
    exchange.reset()


@fault
def stops_reading(exchange: Exchange, seconds: float = 4.0) -> None:
    time.sleep(seconds)
    exchange.reset()


@fault
def early_refusal(exchange: Exchange, status: int = 413) -> None:
    """Refuse before the body was read, and close on it."""
    exchange.reply_page(status)
    exchange.reset()


# After the request left


def _read(exchange: Exchange, *, charged: bool) -> None:
    exchange.read()
    if charged:
        exchange.charge()


@fault
def reset_after(exchange: Exchange, charged: bool = True) -> None:
    _read(exchange, charged=charged)
    exchange.reset()


@fault
def closed_after(exchange: Exchange, charged: bool = True) -> None:
    _read(exchange, charged=charged)


@fault
def silent(exchange: Exchange, charged: bool = True, seconds: float = 6.0) -> None:
    _read(exchange, charged=charged)
    exchange.linger(seconds)


@fault
def late(exchange: Exchange, seconds: float = 1.5) -> None:
    """Answer, but after the client's deadline."""
    body = exchange.process()
    time.sleep(seconds)
    with contextlib.suppress(OSError):
        exchange.reply_json(body)


@fault
def kept_alive_then_closed(exchange: Exchange) -> None:
    """Offer to keep the connection, then close it on a client that sends once more."""
    body = exchange.process()
    exchange.send(
        200,
        f"Content-Length: {len(body)}",
        "Connection: keep-alive",
        "Keep-Alive: timeout=60",
        body=body,
    )
    exchange.connection.settimeout(3.0)
    with contextlib.suppress(OSError):
        if more := exchange.connection.recv(1 << 16):
            head, _, rest = more.partition(b"\r\n\r\n")
            Exchange(exchange.vendor, exchange.connection, head, rest).read_and_charge()


@fault
def status(exchange: Exchange, status: int, charged: bool = False, retry_after: str | None = None) -> None:
    _read(exchange, charged=charged)
    headers = [] if retry_after is None else [f"Retry-After: {retry_after}"]
    exchange.reply_page(status, *headers)


@fault
def status_with_contacts(exchange: Exchange, status: int) -> None:
    exchange.reply_json(exchange.process(), status)


@fault
def partly_processed(exchange: Exchange, status: int = 403, shown: str = "contacts") -> None:
    """Run out of credits half-way: what was processed is charged, and shown or not."""
    exchange.read()
    half = exchange.asked[: len(exchange.asked) // 2]
    exchange.charge([pair for pair in half if is_found(*pair, exchange.match_rate)])
    body = exchange.body(exchange.records()[: len(half)], error="insufficient credits")
    if shown == "contacts":
        exchange.reply_json(body, status)
    elif shown == "number":
        exchange.reply_json({"error": "insufficient credits", "records_enriched": len(half)}, status)
    elif shown == "torn":
        exchange.reply_json(body[: body.index(b"}")], status)
    else:
        exchange.reply_page(status)


@fault
def interim(exchange: Exchange, final: bool = True) -> None:
    """Send interim answers before the real one."""
    body = exchange.process()
    exchange.connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    time.sleep(0.05)
    exchange.connection.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n")
    if final:
        exchange.reply_json(body)


@fault
def not_http(exchange: Exchange) -> None:
    exchange.read_and_charge()
    line = f"SSH-2.0 {exchange.headers['x-api-key']} {exchange.asked[0]}\r\n"
    exchange.connection.sendall(line.encode("utf-8", "replace"))


@fault
def broken_headers(exchange: Exchange) -> None:
    """Send header lines that no parser accepts, with the request quoted in them."""
    body = exchange.process()
    quoted = f"{exchange.headers['x-api-key']} {exchange.asked[0][1]}"
    exchange.send(
        200,
        "Content-Type: application/json",
        f"{quoted} no colon here",
        f"Content-Length: {len(body)}",
        body=body,
    )


@fault
def redirect(exchange: Exchange, status: int, to: str) -> None:
    exchange.read()
    location = to.replace("{self}", exchange.target)
    exchange.send(status, f"Location: {location}", "Content-Length: 0", "Connection: close")


# While the reply arrives


@fault
def truncated(exchange: Exchange, how: str = "length", share: float = 0.6) -> None:
    body = exchange.process()
    cut = body[: int(len(body) * share)]
    if how == "length":
        exchange.send(200, f"Content-Length: {len(body)}", body=cut)
    elif how == "close":
        exchange.send(200, "Connection: close", body=cut)
    else:
        chunk = f"{len(body):x}\r\n".encode() + cut
        exchange.send(200, "Transfer-Encoding: chunked", body=chunk)


@fault
def wrong_chunk_size(exchange: Exchange) -> None:
    body = exchange.process()
    exchange.send(200, "Transfer-Encoding: chunked", body=b"zz\r\n" + body + b"\r\n0\r\n\r\n")


@fault
def reset_in_reply(exchange: Exchange, share: float = 0.6) -> None:
    body = exchange.process()
    exchange.send(200, f"Content-Length: {len(body)}", body=body[: int(len(body) * share)])
    time.sleep(0.1)
    exchange.reset()


@fault
def short_length(exchange: Exchange) -> None:
    """Announce less than there is."""
    body = exchange.process()
    exchange.send(200, f"Content-Length: {len(body) // 2}", "Connection: close", body=body)
