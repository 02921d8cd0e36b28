"""A complete reply that cannot be read, or not as it stands."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable

from .exchange import Exchange
from .registry import fault


@fault
def gzipped(exchange: Exchange, damage: str = "none", layers: int = 1, called: str | None = None) -> None:
    data = exchange.process()
    for _ in range(layers):
        data = gzip.compress(data)
    encoding = called or ", ".join(["gzip"] * layers)
    exchange.reply(200, _damage_gzip(data, damage), f"Content-Encoding: {encoding}")


def _damage_gzip(data: bytes, damage: str) -> bytes:
    half = len(data) // 2
    match damage:
        case "truncated":
            return data[: len(data) * 3 // 5]
        case "checksum":
            return data[:-8] + _inverted(data[-8:])
        case "middle":
            return data[:half] + _inverted(data[half : half + 40]) + data[half + 40 :]
        case "lie":
            return gzip.decompress(data)
        case _:
            return data


def _inverted(data: bytes) -> bytes:
    return bytes(byte ^ 0xFF for byte in data)


@fault
def deflated(exchange: Exchange) -> None:
    exchange.reply(200, zlib.compress(exchange.process()), "Content-Encoding: deflate")


@fault
def page_instead(exchange: Exchange) -> None:
    exchange.read_and_charge()
    exchange.reply_page(200)


@fault
def text(exchange: Exchange, body: str) -> None:
    """Send a fixed body in place of the reply."""
    exchange.read_and_charge()
    exchange.reply_json(body.encode())


@fault
def no_content(exchange: Exchange) -> None:
    exchange.read_and_charge()
    exchange.send(204, "Connection: close")


@fault
def damaged(exchange: Exchange, how: str) -> None:
    """Send a body that is wrong in one place."""
    exchange.read_and_charge()
    exchange.reply_json(DAMAGES[how](exchange))


def _replace_in_second_half(exchange: Exchange, old: bytes, new: bytes) -> bytes:
    body = exchange.body()
    position = body.index(old, len(body) // 2)
    return body[:position] + new + body[position + len(old) :]


def _add_to_first_contact(exchange: Exchange, raw: str) -> bytes:
    """Give the first contact that was found one more field, as raw JSON."""
    body = exchange.body().decode()
    more = body.replace('{"full_name":', f'{{"odd": {raw}, "full_name":', 1)
    return more.encode("utf-8", "surrogatepass")


def _by_value(exchange: Exchange) -> bytes:
    contacts = {record["value"]: record["enriched_contact"] for record in exchange.records()}
    return json.dumps({"contacts": contacts}).encode()


def _repeated_contact_key(exchange: Exchange) -> bytes:
    once = b'{"enriched_contact": null'
    return exchange.body().replace(once, once + b', "enriched_contact": null', 1)


Damage = Callable[[Exchange], bytes]


def _replaced(old: bytes, new: bytes) -> Damage:
    return lambda exchange: _replace_in_second_half(exchange, old, new)


def _with_odd_field(raw: str) -> Damage:
    return lambda exchange: _add_to_first_contact(exchange, raw)


DAMAGES: dict[str, Damage] = {
    "comma missing": _replaced(b'}, {"enriched', b'} {"enriched'),
    "garbage behind": lambda exchange: exchange.body() + b"<!-- trailing -->",
    "twice": lambda exchange: exchange.body() * 2,
    "single quotes": lambda exchange: str({"contacts": exchange.records()}).encode(),
    "bad UTF-8": _replaced(b"Chicago", b"Chic\xe9\xff"),
    "UTF-16": lambda exchange: exchange.body().decode().encode("utf-16"),
    "byte order mark": lambda exchange: b"\xef\xbb\xbf" + exchange.body(),
    "NaN": _with_odd_field("NaN"),
    "Infinity": _with_odd_field("-Infinity"),
    "huge integer": _with_odd_field("9" * 10_000),
    "huge exponent": _with_odd_field("1e999999"),
    "duplicate keys": _with_odd_field('1, "odd": 2, "odd": 3'),
    "duplicate contact": _repeated_contact_key,
    "lone surrogate": _with_odd_field('"\\ud800"'),
    "deep in a contact": _with_odd_field("[" * 100_000 + "]" * 100_000),
    "deep and cut": lambda _: b'{"contacts": ' + b"[" * 100_000,
    "deep at the top": lambda exchange: b"[" * 100_000 + exchange.body() + b"]" * 100_000,
    "list at the top": lambda exchange: json.dumps(exchange.records()).encode(),
    "contacts by value": _by_value,
    "wrapped": lambda exchange: b'{"data": ' + exchange.body() + b"}",
    "wrapped as text": lambda exchange: json.dumps({"body": exchange.body().decode()}).encode(),
}
