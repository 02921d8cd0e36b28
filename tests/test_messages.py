"""Every error that the package can raise, provoked and read. `pytest -s tests/test_messages.py` prints the page."""

import ast
import base64
import importlib.machinery
import importlib.util
import os
import re
import socket
import ssl
import sys
import threading
import traceback
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import dlt
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from eb_dagster import (
    Enricher,
    EnrichError,
    ExactBuyerResource,
    LaunchConfig,
    build_enriched_contacts_asset,
    sandbox,
)
from eb_dagster.cli import commands
from eb_dagster.cli import ledger as ledger_commands
from eb_dagster.definitions import upstream
from eb_dagster.identifiers import model
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.ledger.reconcile import resolve
from eb_dagster.tables import csv
from eb_dagster.tables.atomic_file import check_writable
from eb_dagster.tables.object_store import place
from eb_dagster.tables.parquet import open_parquet, read_metadata
from eb_dagster.warehouse import contacts_source, load_contacts
from tests.databases import PostgreSQL
from tests.faults.certificates import make_certificates
from tests.test_warehouse import postgres

HAS_SPARK = importlib.util.find_spec("pyspark") is not None
if not HAS_SPARK:
    # These messages come before anything is asked of Spark itself.
    sys.modules["pyspark"] = types.ModuleType("pyspark")
    sys.modules["pyspark"].__spec__ = importlib.machinery.ModuleSpec("pyspark", None)
from eb_dagster.spark import enrich as enrich_on_spark  # noqa: E402

if not HAS_SPARK:
    del sys.modules["pyspark"]

PACKAGE = Path(commands.__file__).parents[1]
KEY = "canary-key-1234"
CANARIES = (KEY, "canary.example", "canary-secret")

NEXT = re.compile(
    r"(?i)\b(ask|cast|check|choose|chmod|compare|copy|correct|drop|give|leave|lower|make|mend|move|name|open|pass|"
    r"pip install|put|raise|read|remove|rename|report|restore|run|save|say|see|set|look|top up|upgrade|use|write)\b"
)
SPENT = re.compile(
    r"\. (Nothing was sent|Nothing was charged|Nothing was changed|Nobody was suppressed|Nothing was forgotten|Nothing was bought|Whatever was bought is in the ledger|This run was charged [\d,]+ credits?.*)$"
)

NOT_PROVOKED = {
    "could not be carried over": "needs a disk that fails; tests/faults/storage.py",
    "the ledger is on a network file system": "needs a mount; test_ledger reads tables of mounts",
    "a PostgreSQL ledger needs psycopg": "needs an environment without psycopg",
    "which needs libraries": "needs an environment without them",
    "which needs cryptography": "needs an environment without cryptography",
    "SQLite would not promise": "no SQLite here refuses WAL on a local disk",
    "PostgreSQL is read-only there": "needs a replica",
    "cannot note who claims": "needs a disk that fails between two calls; tests/faults/storage.py",
    "damaged(": "one message, whatever is damaged; some of it is provoked",
    "its log still holds": "needs a reader at that very moment",
    "was opened before a fork": "needs a fork, which threads forbid; tests/faults/together.py forks",
    "is there and cannot be read: check the disk": "needs a disk that fails while it is read",
    "is there and cannot be read: no permission": "root may read everything",
    "is gone, and its {path.name}-wal": "test_database.py",
    "which keeps nothing; name a file": "test_database.py",
    "was emptied: it has been used": "test_database.py",
    "leads to no schema for the ledger's tables": "test_database.py",
    "were dropped by a purge": "test_books.py",
    "could not be written ({type(error).__name__})": "needs a disk that fails",
    "is there already, and a backup replaces nothing": "test_books.py",
    "is copied by PostgreSQL itself": "test_books.py",
    "only what was charged can be asked again": "test_books.py",
    "encrypted with an earlier key": "test_vault.py",
    "replies are encrypted: set {VARIABLE}": "test_vault.py",
    "is not that of the ledger's replies; set it to the one": "test_vault.py",
    "is no key; set it to 32 random bytes": "test_vault.py",
    "more than a day behind the newest request": "test_ledger.py",
    "this machine's clock is {abs": "test_purchase.py",
    "the reply of request {request_id} is damaged in the ledger": "a checksum finds it before",
    "no permission in its folder": "root may write everything",
    "cannot write {path}: {error.strerror}": "needs a disk that fails",
    "the ledger of this executor is another one": "needs a cluster; test_spark.py has one",
    "{self} cannot {what}": "needs an object store; test_object_stores",
    "the warehouse refused": "needs a database that takes the contacts and refuses what comes after",
}  # fmt: skip


@dataclass
class Scene:
    """What a provocation can use."""

    folder: Path
    closing: ExitStack
    postgresql: PostgreSQL
    monkeypatch: pytest.MonkeyPatch
    api: sandbox.Sandbox | None = None
    before: int = 0
    """Credits charged before what is provoked."""

    def enricher(self, *, faults: str = "", match_rate: float = 1.0, **chosen: Any) -> Enricher:
        if self.api is None:
            parsed = [sandbox.Fault.parse(one) for one in faults.split()]
            self.api = self.closing.enter_context(
                sandbox.running(
                    bill=self.folder / "bill.db",
                    requests_per_minute=100_000,
                    faults=parsed,
                    match_rate=match_rate,
                )
            )
        usual: dict[str, Any] = {
            "api_key": KEY, "base_url": self.api.url, "ledger": self.ledger, "requests_per_minute": 60_000,
            "progress": False, "timeout": 5.0,
        }  # fmt: skip
        return self.closing.enter_context(Enricher(**{**usual, **chosen}))

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger.db"

    def enrich(self, frame: Any = None, **chosen: Any) -> Any:
        with self.enricher(**chosen) as enricher:
            return enricher.enrich_dataframe(leads() if frame is None else frame)

    def file(self, name: str, content: bytes = b"") -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path

    def numbers(self) -> Path:
        pd.DataFrame({"phone": [17734749362]}).to_parquet(self.folder / "numbers.parquet")
        return self.folder / "numbers.parquet"

    def sql(self, statement: str, *values: Any) -> None:
        engine = sa.create_engine(f"sqlite:///{self.ledger}")
        with engine.begin() as connection:
            connection.exec_driver_sql(statement, values)
        engine.dispose()


def leads(count: int = 20) -> pd.DataFrame:
    return pd.DataFrame({"email": [f"p{number}@canary.example" for number in range(count)]})


def publish(scene: Scene, column: pa.Array, name: str) -> None:
    leads = pa.Table.from_arrays([pa.array(["+12025550100"]), pa.nulls(1), column], ["phone", "email", name])
    enricher = scene.enricher(identifiers={"phone": "phone"})
    enricher.write(enricher.enrich_batches(leads), scene.folder / "table.parquet")


@contextmanager
def answering(
    status: int, headers: dict[str, str] | None = None, certificate: Path | None = None
) -> Iterator[str]:
    """A server that answers everything in one way."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()

        def do_CONNECT(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
            server.handle_error = lambda *_: None
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


PROVOKED: dict[str, Callable[[Scene], Any]] = {}


def provoked(what: str, act: Callable[[Scene], Any]) -> None:
    assert what not in PROVOKED
    PROVOKED[what] = act


# The settings

for what, act in {
    "no key": lambda s: s.enrich(api_key=" "),
    "a key with odd letters": lambda s: s.enrich(api_key="canary-secret-ü"),
    "an address that is none": lambda s: s.enrich(base_url="https://a:b"),
    "an address without a host": lambda s: s.enrich(base_url="api"),
    "an address with a password": lambda s: s.enrich(base_url="https://me:canary-secret@a.example"),
    "an address of another kind": lambda s: s.enrich(base_url="ftp://a.example"),
    "plain http to elsewhere": lambda s: s.enrich(base_url="http://a.example"),
    "a proxy without a port": lambda s: s.enrich(proxy="http://canary-secret"),
    "a proxy that is no address": lambda s: s.enrich(proxy="http://canary-secret:x"),
    "a proxy of another kind": lambda s: s.enrich(proxy="socks5://me:canary-secret@a.example:1080"),
    "authorities that are none": lambda s: s.enrich(ca_bundle=s.file("a.pem", b"canary")),
    "required fields as a text": lambda s: s.enrich(required_fields="email"),
    "columns as a text": lambda s: s.enrich(columns="city"),
    "an unknown required field": lambda s: s.enrich(required_fields=["fax"]),
    "an unknown choice": lambda s: s.enrich(over_budget="ask"),
    "a partition size that is no number": lambda s: s.enrich(partition_size="all"),
    "a partition size too large": lambda s: s.enrich(partition_size=2000),
    "no timeout": lambda s: s.enrich(timeout=0),
    "a prefix that is no text": lambda s: s.enrich(prefix=3),
    "columns that are no list": lambda s: s.enrich(columns=3),
    "identifiers that name no kind": lambda s: s.enrich(identifiers="email"),
    "identifiers that name no column": lambda s: s.enrich(identifiers={"email": None}),
    "a bar that is none": lambda s: s.enrich(progress="x"),
    "a ledger that is named and empty": lambda s: s.enrich(ledger=""),
    "an age that is a number": lambda s: s.enrich(max_age=90),
    "an age of zero": lambda s: s.enrich(max_age=timedelta(0)),
    "an unknown column": lambda s: s.enrich(columns=["fax"]),
    "the region UK": lambda s: s.enrich(default_region="UK"),
    "a region that is none": lambda s: s.enrich(default_region="Bavaria"),
    "an unknown kind of identifier": lambda s: s.enrich(identifiers={"fax": "email"}),
    "no identifier named": lambda s: s.enrich(identifiers={"email": []}),
    "a person that is a text": lambda s: s.enrich(person="Name"),
    "a person of unknown parts": lambda s: s.enrich(person={"fax": "Name"}),
    "a person of several columns": lambda s: s.enrich(person={"name": ["Name"]}),
    "a person of a company alone": lambda s: s.enrich(person={"company": "Firm"}),
    "a column named twice": lambda s: s.enrich(identifiers={"email": ["email", "email"]}),
}.items():
    provoked(what, act)


# What comes in

for what, act in {
    "no table at all": lambda s: s.enrich(3),
    "no identifier columns": lambda s: s.enrich(leads().rename(columns={"email": "Work mail"})),
    "a column that is not there": lambda s: s.enrich(identifiers={"email": "E-mail"}),
    "two columns of one name": lambda s: s.enrich(pd.concat([leads(), leads()], axis="columns")),
    "numbers for addresses": lambda s: s.enrich(pd.DataFrame({"email": [1, 2]})),
    "numbers in an Arrow table": lambda _: model.read_batch(
        pa.record_batch({"email": [1]}), model.find_layout(["email"], None), default_region=None
    ),
    "a clash of names": lambda s: s.enrich(leads().assign(eb_status=1)),
    "a column and no table": lambda s: s.enrich(pl.Series("email", ["jane@canary.example"])),
    "Python objects in Polars": lambda s: s.enrich(
        pl.DataFrame({"email": pl.Series([{1}], dtype=pl.Object)})
    ),
    "a type that Parquet lacks": lambda s: publish(s, pa.nulls(1, pa.month_day_nano_interval()), "since"),
    "two columns of one name for Parquet": lambda s: publish(s, pa.nulls(1), "email"),
    "a path for a stream": lambda s: s.enricher().enrich_batches("leads.parquet"),
    "a number for a stream": lambda s: s.enricher().enrich_batches(3),
    "a stream of nothing": lambda s: s.enricher().enrich_batches([]),
    "an asset that gives a number": lambda _: upstream.read_upstream(3),
    "an asset that gives many partitions": lambda _: upstream.read_upstream({"a": leads(), "b": leads()}),
    "an asset with two columns of one name": lambda _: upstream.read_upstream(
        pd.concat([leads(), leads()], axis="columns")
    ),
    "an asset with a mixed column": lambda _: upstream.read_upstream(
        leads(2).assign(x=[1, "canary.example"])
    ),
    "a plan above the cap": lambda s: s.enrich(max_credits=5, over_budget="refuse"),
}.items():
    provoked(what, act)


# Files

for what, act in {
    "a file that is not there": lambda s: open_parquet(s.folder / "nowhere.parquet"),
    "a file that is no Parquet": lambda s: open_parquet(s.file("a.parquet", b"email")),
    "a target that is no Parquet": lambda s: read_metadata(s.file("a.parquet", b"email")),
    "a target below a file": lambda s: check_writable(s.file("a") / "b.parquet"),
    "a target that leads nowhere": lambda s: check_writable(s.folder / "a\0b"),
    "a target that is a folder": lambda s: check_writable(s.folder),
    "a target that is a device": lambda _: check_writable(Path(os.devnull)),
    "a text file without a header": lambda s: csv.TextTable(s.file("a.csv", b"\n")),
    "a line with too many cells": lambda s: csv.TextTable(s.file("a.csv", b"email,n\n" + b"a,1\n" * 200 + b"a,1,2,3\n")),
    "a quote that never ends": lambda s: csv.TextTable(s.file("a.csv", b'email,n\n"' + b"a" * 200_000)),
    "another encoding than named": lambda s: csv.TextTable(s.file("a.csv", "email\nü\n".encode()), encoding="ascii"),
    "an unknown encoding": lambda s: csv.TextTable(s.file("a.csv", b"email\n"), encoding="klingon"),
    "a separator that is not plain": lambda s: csv.TextTable(s.file("a.csv", b"email,n;m\na,b;c\nd,e;f\n")),
    "a file that is no text": lambda s: csv.TextTable(s.file("a.csv", b"PK\x03\x04\0\0\0")),
    "a file of two encodings": lambda s: csv.TextTable(s.file("a.csv", "email,ü\n".encode() + b"\xfc\n")),
    "a file of no known encoding": lambda s: csv.TextTable(s.file("a.csv", b"email\na\x81\x8db\x9d\xa4\xffc\n")),
    "a file of one of two encodings": lambda s: csv.TextTable(s.file("a.csv", "email\nPavlů\n".encode("cp1250"))),
    "a line that is no header": lambda s: csv.TextTable(s.file("a.csv", b"email\n"), header_line=7),
    "a folder as the file of leads": lambda s: commands._open_table(s.folder, encoding=None, separator=None),
    "a folder as the output": lambda s: commands._check_targets(s.file("a.csv"), s.folder, None),
    "a file that the command line cannot find": lambda s: commands._open_table(s.folder / "a.csv", encoding=None, separator=None),
    "an Excel file": lambda s: commands._open_table(s.folder / "a.xlsx", encoding=None, separator=None),
    "two columns of one name in a file": lambda s: commands._check_names(csv.TextTable(s.file("a.csv", b"n,n\n1,2\n"))),
    "a folder that is not there": lambda s: commands._check_targets(s.file("a.csv"), s.folder / "b" / "b.csv", None),
    "a ledger as the output": lambda s: check_writable(s.file("a.parquet", b"SQLite format 3\0")),
    "a table as the report": lambda s: commands._check_targets(s.file("a.csv"), s.folder / "b.csv", s.folder / "c.csv"),
    "a file that somebody else wrote": lambda s: ledger_commands.may_replace(s.file("a.csv"), asks=False),
    "values to forget that are none": lambda _: ledger_commands._check_all([("email", "canary@"), ("email", "a")], None),
    "people who cannot be told from the columns": lambda s: ledger_commands._people(s.file("a.csv", b"a,b\n1,2\n"), None, None, None, {}),
    "people who are no identifiers": lambda s: ledger_commands._people(s.file("a.csv", b"email\ncanary@\n"), None, None, None, {}),
    "people who are numbers": lambda s: ledger_commands._people(s.numbers(), None, None, None, {}),
    "one file for input and output": lambda s: commands._check_targets(s.file("a.csv"), s.folder / "a.csv", None),
}.items():  # fmt: skip
    provoked(what, act)


# The API


def status(code: int, headers: dict[str, str] | None = None) -> Callable[[Scene], Any]:
    def act(scene: Scene) -> Any:
        with answering(code, headers) as url:
            scene.enrich(base_url=url)

    return act


def a_certificate(scene: Scene) -> Any:
    with answering(200, certificate=make_certificates(scene.folder)["unknown"]) as url:
        scene.enrich(base_url=url)


def refusing_proxy(code: int) -> Callable[[Scene], Any]:
    def act(scene: Scene) -> Any:
        with answering(code) as url:
            scene.enrich(base_url="https://127.0.0.1:9", proxy=url.replace("//", "//me:canary-secret@"))

    return act


def no_certificates(scene: Scene) -> Any:
    scene.monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(scene.folder / "nowhere"))
    scene.enrich(base_url="https://127.0.0.1")


def nobody_there(scene: Scene) -> Any:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
    scene.enrich(base_url=f"http://127.0.0.1:{port}")


for what, act in {
    "401": lambda s: s.enrich(faults="401@1"),
    "403 at the start": lambda s: s.enrich(faults="403@1"),
    "403 in mid-run": lambda s: s.enrich(
        leads(40), partition_size=20, max_credits_at_risk=20, faults="403@2"
    ),
    "400": lambda s: s.enrich(faults="400@1"),
    "413": lambda s: s.enrich(faults="413@1"),
    "404": status(404),
    "a redirect": status(307, {"Location": "http://127.0.0.1:9/"}),
    "429 for good": status(429, {"Retry-After": "100"}),
    "connection refused": nobody_there,
    "a certificate that is not trusted": a_certificate,
    "no certificates there": no_certificates,
    "a proxy that asks for a password": refusing_proxy(407),
    "a proxy that lets nobody there": refusing_proxy(403),
    "a proxy that cannot get there": refusing_proxy(502),
    "as much in doubt as is allowed": lambda s: s.enrich(
        leads(60), partition_size=20, max_credits_at_risk=20, faults="502@2"
    ),
}.items():
    provoked(what, act)


# The ledger


def bought(scene: Scene, **chosen: Any) -> None:
    scene.enrich(**chosen)
    scene.before = scene.api.credits() if scene.api else 0


def changed(statement: str, *values: Any, **chosen: Any) -> Callable[[Scene], Any]:
    def act(scene: Scene) -> Any:
        bought(scene)
        scene.sql(statement, *values)
        scene.enrich(**chosen)

    return act


def a_file(scene: Scene) -> Path:
    path = scene.folder / "leads.csv"
    path.write_text("email\na@canary.example\n")
    path.chmod(0o600)
    return path


def a_loop(scene: Scene) -> Any:
    (scene.folder / "loop").symlink_to(scene.folder / "loop")
    scene.enrich(ledger=scene.folder / "loop" / "ledger.db")


def open_to_others(scene: Scene) -> Any:
    bought(scene)
    scene.ledger.chmod(0o644)
    scene.enrich()


def two_links(scene: Scene) -> Any:
    bought(scene)
    os.link(scene.ledger, scene.folder / "other")
    scene.enrich()


def a_forgetful_server(scene: Scene) -> Any:
    url = scene.postgresql.new_database()
    name = sa.make_url(url).database
    scene.postgresql.run(f"ALTER DATABASE {name} SET synchronous_commit = off")
    scene.enrich(ledger=url)


def another_ledger(scene: Scene) -> Any:
    pq.write_table(pa.table({"email": ["a@canary.example"]}), scene.folder / "in.parquet")
    with scene.enricher() as first:
        first.enrich_parquet(scene.folder / "in.parquet", scene.folder / "out.parquet")
    scene.before = 1
    with scene.enricher(ledger=scene.folder / "new.db") as second:
        second.enrich_parquet(scene.folder / "in.parquet", scene.folder / "out.parquet")


def a_clock(scene: Scene) -> Any:
    bought(scene)
    scene.sql("UPDATE requests SET created_at = created_at - 1e8, answered_at = answered_at - 1e8")
    scene.enrich(max_age=timedelta(days=90))


def closed(scene: Scene) -> Any:
    enricher = scene.enricher()
    enricher.close()
    enricher.plan(leads())


def another_key(scene: Scene) -> Any:
    scene.monkeypatch.setenv("EB_DAGSTER_LEDGER_KEY", base64.b64encode(b"a" * 32).decode())
    bought(scene)
    scene.monkeypatch.setenv("EB_DAGSTER_LEDGER_KEY", base64.b64encode(b"b" * 32).decode())
    scene.enrich()


def no_key_any_more(scene: Scene) -> Any:
    scene.monkeypatch.setenv("EB_DAGSTER_LEDGER_KEY", base64.b64encode(b"a" * 32).decode())
    bought(scene)
    scene.monkeypatch.delenv("EB_DAGSTER_LEDGER_KEY")
    scene.enrich()


def a_bad_key(scene: Scene) -> Any:
    scene.monkeypatch.setenv("EB_DAGSTER_LEDGER_KEY", "canary-secret")
    scene.enrich()


def decided(**chosen: Any) -> Callable[[Scene], Any]:
    def act(scene: Scene) -> Any:
        bought(scene, faults="502@1")
        with closing(Ledger(scene.ledger, endpoint="https://a.example")) as ledger:
            resolve(ledger, **chosen)

    return act


def answered_twice(scene: Scene) -> Any:
    bought(scene)
    with closing(Ledger(scene.ledger, endpoint="https://a.example")) as ledger:
        ledger.record(1, http_status=200, encoding="", complete=True, body=b"{}")


def in_mid_run(scene: Scene) -> Any:
    """The ledger is damaged while the run goes on; one whose database is away would be waited for."""

    def stream() -> Iterator[pa.RecordBatch]:
        schema = pa.schema([("email", pa.string())])
        for start in range(0, 2 * 40_000, 40_000):
            emails = [f"p{number}@canary.example" for number in range(start, start + 40_000)]
            if start:
                scene.sql("UPDATE requests SET keys_checksum = keys_checksum + 1")
            yield pa.RecordBatch.from_pylist([{"email": one} for one in emails], schema=schema)

    with scene.enricher(requests_per_minute=1_000_000) as enricher:
        enricher.enrich_batches(stream()).read_all()


for what, act in {
    "a ledger on another database": lambda s: s.enrich(ledger="mysql://a/b"),
    "a ledger that is no address": lambda s: s.enrich(ledger="postgresql://me:canary-secret@a:port/b"),
    "a ledger behind a loop of links": a_loop,
    "a ledger that is a folder": lambda s: s.enrich(ledger=s.folder),
    "a ledger below a file": lambda s: s.enrich(ledger=a_file(s) / "ledger.db"),
    "a ledger that is another file": lambda s: s.enrich(ledger=a_file(s)),
    "a ledger open to others": open_to_others,
    "a ledger with two links": two_links,
    "a ledger of a newer release": changed("UPDATE meta SET value = CAST('99' AS BLOB) WHERE name = 'schema_version'"),
    "a ledger whose key is damaged": changed("UPDATE meta SET value = x'00112233445566778899aabbccddeeff' WHERE name = 'secret'"),
    "a ledger whose reply is gone": changed("DELETE FROM replies"),
    "a ledger whose reply is damaged": changed("UPDATE replies SET body = x'00'"),
    "a ledger without its table": changed("DROP TABLE requests"),
    "a ledger that is damaged in mid-run": in_mid_run,
    "a PostgreSQL that may forget": a_forgetful_server,
    "a table that another ledger paid for": another_ledger,
    "a clock that runs years ahead": a_clock,
    "a ledger that is closed": closed,
    "a key of the ledger that is none": a_bad_key,
    "a ledger whose key is not set": no_key_any_more,
    "a ledger of another key": another_key,
    "a ledger that is not there": lambda s: Ledger(s.folder / "nowhere.db", endpoint="a", must_exist=True),
    "a request answered twice": answered_twice,
    "credits for a request that was not charged": decided(requests=[1], decision="resend", credits=1),
    "a decision about what is not in doubt": decided(requests=[7], decision="resend"),
    "more credits than are in doubt": decided(requests=[1], decision="charged", credits=99),
    "suppressing what is nobody": lambda s: s.enricher().suppress([("email", "canary.example")]),
    "suppressing with kind and text swapped": lambda s: s.enricher().suppress([("p@canary.example", "email")]),
    "suppressing by what is no kind": lambda s: s.enricher().suppress([("mail", "p@canary.example")]),
    "suppressing what is no text": lambda s: s.enricher().suppress([("email", 17)]),
    "suppressing what is no list of pairs": lambda s: s.enricher().suppress(["p@canary.example"]),
    "forgetting what is nobody": lambda s: s.enricher().forget("email", "canary.example"),
}.items():  # fmt: skip
    provoked(what, act)


# Dagster


def launched(**chosen: str) -> Callable[[Scene], Any]:
    """A run that brings settings of its own for the resource."""

    def act(scene: Scene) -> Any:
        @dg.asset
        def uses(exactbuyer: ExactBuyerResource) -> None:
            exactbuyer.enricher()

        # Not in the environment once the definitions have loaded.
        resource = ExactBuyerResource(api_key=dg.EnvVar("CANARY_KEY"), ledger=str(scene.ledger))
        dg.materialize(
            [uses], resources={"exactbuyer": resource},
            run_config={"resources": {"exactbuyer": {"config": chosen}}},
        )  # fmt: skip

    return act


def masked(scene: Scene) -> Any:
    return ExactBuyerResource(api_key="********", ledger=str(scene.ledger)).enricher()


def asset(**chosen: Any) -> Callable[[Scene], Any]:
    return lambda _: build_enriched_contacts_asset(source="leads", **chosen)


for what, act in {
    "a ledger set at launch": lambda s: (
        s.monkeypatch.setenv("CANARY_KEY", KEY),
        launched(api_key=KEY, ledger="/other.db")(s),
    ),
    "a mask for a variable that is not set": launched(api_key="********", ledger="********"),
    "a mask for nothing that is known": masked,
    "a relative ledger for Dagster": lambda _: ExactBuyerResource(api_key=KEY, ledger="l.db"),
    "a launch with less than no credits": lambda _: LaunchConfig(max_credits=-1),
    "a launch with no age": lambda _: LaunchConfig(max_age_days=0),
    "an asset with a path and an I/O manager": asset(name="a", path="a", io_manager_key="b"),
    "an asset with an unknown keyword": asset(path="a", name="a", max_credit=5),
    "an asset with a spec and a name": asset(path="a", name="a", spec=dg.AssetSpec("a")),
    "an asset without a name": asset(path="a"),
    "an asset with a check that is none": asset(path="a", name="a", checks={"match_rte": {}}),
    "an asset with bounds in the wrong order": asset(
        path="a", name="a", min_match_rate=0.9, max_match_rate=0.1
    ),
}.items():
    provoked(what, act)


# The test


def sites() -> dict[tuple[str, int], str]:
    """Every place that raises one of our errors: file and line, with its source."""
    names = {one.__name__ for one in subclasses(EnrichError)} | {"kind", "damaged"}
    found = {}
    for file in PACKAGE.rglob("*.py"):
        source = file.read_text("utf-8")
        for node in ast.walk(ast.parse(source)):
            if (
                isinstance(node, ast.Raise)
                and isinstance(node.exc, ast.Call)
                and getattr(node.exc.func, "id", "") in names
            ):
                found[file.name, node.lineno] = ast.get_source_segment(source, node) or ""
    return found


def subclasses(one: type) -> set[type]:
    return {one}.union(*(subclasses(each) for each in one.__subclasses__()))


def origin(error: BaseException) -> set[tuple[str, int]]:
    frames = traceback.extract_tb(error.__traceback__)
    return {(Path(one.filename).name, one.lineno or 0) for one in frames}


# Object stores

for what, act in {
    "an address with a key": lambda _: place("s3://me:canary-secret@crm/a.parquet"),
    "a bucket in place of an object": lambda _: check_writable(place("s3://crm")),
    "a report in an object store": lambda _: check_writable(Path("s3://crm/report.html")),
    "a CSV in an object store": lambda _: commands._check_suffix(place("s3://crm/a.csv")),
}.items():
    provoked(what, act)


# The warehouse


def load(scene: Scene, table: pa.Table, destination: Any = None, **settings: Any) -> None:
    path = scene.folder / "table.parquet"
    pq.write_table(table, path)
    scene.monkeypatch.chdir(scene.folder)
    database = dlt.destinations.duckdb(str(scene.folder / "warehouse.duckdb"))
    load_contacts(path, destination or database, **{"dataset": "crm", **settings})


FOUND = pa.table({
    "id": ["1", "1", None], "eb_matched": [True] * 3, "eb_field_type": ["email"] * 3,
    "eb_query": ["a@canary.example", "b@canary.example", "c@canary.example"],
})  # fmt: skip


def retyped(scene: Scene) -> None:
    load(scene, FOUND.append_column("age", pa.array([1, 2, 3])))
    load(scene, FOUND.append_column("age", pa.array([1.5, 2.5, 3.5])))


for what, act in {
    "a history in a lake": lambda _: contacts_source("table.parquet", history=True, table_format="delta"),
    "a part for a lake": lambda _: contacts_source("table.parquet", is_whole=False, table_format="delta"),
    "a table that was not enriched": lambda s: load(s, pa.table({"email": ["a@canary.example"]})),
    "a key that is no column": lambda s: load(s, FOUND, key="number"),
    "a key that is null": lambda s: load(s, FOUND.slice(1), key="id"),
    "a key that is there twice": lambda s: load(s, FOUND, key="id"),
    "a column of another type than in the warehouse": retyped,
    "a column that would be ours": lambda s: load(
        s, FOUND.append_column("Contact id", pa.array(["1", "2", "3"]))
    ),
    "a column that would be dlt's": lambda s: load(
        s, FOUND.append_column("_dlt_id", pa.array(["1", "2", "3"]))
    ),
    "bytes for PostgreSQL": lambda s: load(
        s,
        FOUND.append_column("photo", pa.array([b"canary.example"] * 3)),
        postgres(s.postgresql.new_database()),
    ),
    "parts of a microsecond for a warehouse": lambda s: load(
        s, FOUND.append_column("seen", pa.array([1, 2, 3], pa.timestamp("ns")))
    ),
    "a warehouse without credentials": lambda s: load(s, FOUND, "postgres"),
    "a dataset of the database's own name": lambda s: load(s, FOUND.slice(0, 1), dataset="warehouse"),
    "a warehouse that is not there": lambda s: load(
        s, FOUND, dlt.destinations.duckdb(str(s.folder / "nowhere" / "w.duckdb"))
    ),
}.items():
    provoked(what, act)


# Spark


class SparkFrame:
    """As much of a Spark dataframe as is looked at before anything is asked of Spark."""

    def __init__(self, master: str, **kinds: str) -> None:
        self.sparkSession = SimpleNamespace(conf={"spark.master": master})
        self.schema = SparkSchema(kinds)

    def mapInArrow(self) -> None:  # noqa: N802 - Spark's word
        raise AssertionError


class SparkSchema(dict[str, str]):
    @property
    def names(self) -> list[str]:
        return list(self)

    def __getitem__(self, name: str) -> Any:
        kind = super().__getitem__(name)
        return SimpleNamespace(dataType=SimpleNamespace(typeName=lambda: kind, simpleString=lambda: kind))


def on_spark(*, master: str = "spark://127.0.0.1:7077", email: str = "string", **chosen: Any) -> Any:
    def act(scene: Scene) -> Any:
        scene.monkeypatch.setenv("EB_DAGSTER_LEDGER", str(scene.ledger))
        enrich_on_spark(SparkFrame(master, email=email), **chosen)

    return act


for what, act in {
    "no Spark dataframe": lambda _: enrich_on_spark(leads()),
    "a key for Spark": on_spark(api_key=KEY),
    "a proxy's password for Spark": on_spark(proxy="http://me:canary-secret@a.example:80"),
    "a cap on one run for Spark": on_spark(max_credits=5),
    "an unknown setting for Spark": on_spark(max_credit=5),
    "no ledger for Spark": on_spark(ledger=""),
    "a file as the ledger of a cluster": on_spark(),
    "a password in a ledger's address for Spark": on_spark(
        ledger="postgresql://me:canary-secret@127.0.0.1/crm"
    ),
    "numbers as identifiers in Spark": on_spark(master="local[2]", email="bigint"),
}.items():
    provoked(what, act)


def faults_of(text: str, charged: int) -> list[str]:
    """What is wrong with a message."""
    found = [f"shows {canary}" for canary in CANARIES if canary in text]
    ending = SPENT.search(text)
    if ending is None:
        return [*found, "does not end with what was spent"]
    if not NEXT.search(text[: ending.start()]):
        found.append("does not say what to do")
    if "\n" in text or ".." in text.replace("…", "") or len(text) > 520:
        found.append("is no sentence, or too long")
    told = [int(number.replace(",", "")) for number in re.findall(r"[\d,]*\d", ending[1])] or [0]
    if not told[0] <= charged <= sum(told):
        found.append(f"tells {told}, and {charged} were charged")
    return found


def raised(act: Callable[[Scene], Any], scene: Scene) -> BaseException:
    try:
        act(scene)
    except Exception as error:
        # Dagster puts an error of its own around that of a resource.
        return error.__cause__ if isinstance(error.__cause__, EnrichError) else error
    return AssertionError("nothing was raised")


def test_every_error_says_what_happened_what_was_spent_and_what_to_do(tmp_path, postgresql):
    unseen, faults, page = sites(), [], []
    for number, (what, act) in enumerate(PROVOKED.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.MonkeyPatch.context() as monkeypatch, ExitStack() as stack:
            monkeypatch.delenv("EXACTBUYER_API_KEY", raising=False)
            scene = Scene(folder, stack, postgresql, monkeypatch)
            error = raised(act, scene)
            charged = scene.api.credits() - scene.before if scene.api else 0
        text = f"{type(error).__name__}: {error}"
        page.append(f"{what}\n    {text}\n")
        faults += [f"{what}: {fault}: {text}" for fault in faults_of(text, charged)]
        for site in origin(error):
            unseen.pop(site, None)
    print("\n" + "\n".join(page))
    missing = [
        (site, source) for site, source in unseen.items() if not any(one in source for one in NOT_PROVOKED)
    ]
    assert not faults, "\n".join(faults)
    assert missing == []


def test_the_list_of_what_is_not_provoked_is_not_stale():
    sources = list(sites().values())
    assert [one for one in NOT_PROVOKED if not any(one in source for source in sources)] == []
