"""Ask a sandbox over real sockets."""

import contextlib
import json
import socket
import sqlite3
import time
import urllib.parse
from typing import Any

import requests

from eb_dagster import sandbox


def emails(count: int) -> list[dict[str, str]]:
    return [{"field_type": "email", "value": f"lead{n}@north.example"} for n in range(count)]


def form(query: Any, required: Any = None) -> dict[str, str]:
    fields = {"query_list": json.dumps(query)}
    return fields if required is None else {**fields, "required_fields": json.dumps(required)}


def ask(api: sandbox.Sandbox, query: Any, required: Any = None, **options: Any) -> requests.Response:
    options = {"headers": {"X-API-Key": "any"}, "data": form(query, required), "timeout": 30, **options}
    with requests.Session() as session:
        session.trust_env = False
        return session.post(f"{api.url}/v1/bulk-enrich", **options)


def get(url: str) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.get(url, timeout=30)


def raw_request(query: Any) -> bytes:
    body = "&".join(f"{k}={urllib.parse.quote(v)}" for k, v in form(query).items()).encode()
    head = (
        "POST /v1/bulk-enrich HTTP/1.1\r\nHost: it\r\nX-API-Key: any\r\n"
        f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def connect(api: sandbox.Sandbox) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(api.url.rsplit(":", 1)[1])), timeout=20)


def rows(api: sandbox.Sandbox, query: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(api.bill)) as connection:
        return connection.execute(query).fetchall()


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
