"""A reply that is too large or too slow."""

from __future__ import annotations

import contextlib
import itertools
import zlib

from .exchange import Exchange
from .registry import fault


@fault
def big(exchange: Exchange, megabytes: int = 100, how: str = "padding") -> None:
    """Send many megabytes between two tokens, or in one value of the first contact."""
    body = exchange.process()
    size = megabytes << 20
    if how == "padding":
        start = b'{"contacts": ['
        body = body.replace(start, start + b" " * size, 1)
    else:
        body = body.replace(b'{"full_name":', b'{"odd": "' + b"x" * size + b'", "full_name":', 1)
    with contextlib.suppress(OSError):
        exchange.reply_json(body)


@fault
def bomb(exchange: Exchange, gigabytes: float = 2.0, front: bool = False) -> None:
    """Send a small gzip body that inflates without end, before or behind the right reply."""
    body = exchange.process()
    compressor = zlib.compressobj(9, wbits=31)
    start = compressor.compress(b"" if front else body) + compressor.flush(zlib.Z_FULL_FLUSH)
    # A block after a full flush stands for itself, so the same one may come again and again.
    block = compressor.compress(b" " * (4 << 20)) + compressor.flush(zlib.Z_FULL_FLUSH)
    with contextlib.suppress(OSError):
        exchange.reply(200, start + block * int(gigabytes * 256), "Content-Encoding: gzip")


@fault
def slow_headers(exchange: Exchange, pause: float = 0.1) -> None:
    body = exchange.process()
    data = exchange.head(200, f"Content-Length: {len(body)}") + body
    exchange.drip((bytes([byte]) for byte in data), pause=pause, seconds=6)


@fault
def slow_body(exchange: Exchange, pause: float = 1.0) -> None:
    body = exchange.process()
    exchange.send(200, f"Content-Length: {len(body)}")
    exchange.drip((bytes([byte]) for byte in body), pause=pause, seconds=6)


@fault
def endless_chunks(exchange: Exchange, pause: float = 0.002) -> None:
    body = exchange.process()
    first_chunk = f"{len(body):x}\r\n".encode() + body + b"\r\n"
    chunk = b"400\r\n" + b" " * 1024 + b"\r\n"
    exchange.send(200, "Transfer-Encoding: chunked", body=first_chunk)
    exchange.drip(itertools.repeat(chunk), pause=pause, seconds=6)


@fault
def many_headers(exchange: Exchange, count: int = 64_000, size: int = 8) -> None:
    body = exchange.process()
    headers = [f"X-{number}: {'h' * size}" for number in range(count)]
    with contextlib.suppress(OSError):
        exchange.send(200, *headers, f"Content-Length: {len(body)}", body=body)
