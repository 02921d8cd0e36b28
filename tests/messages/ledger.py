"""Ledgers that are not there, cannot be trusted, or are asked for what cannot be."""

import base64
import os
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

from eb_dagster import Enricher
from eb_dagster.ledger.copying import copy_ledger
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.ledger.reconcile import resolve
from tests.messages.scene import Act, Provocations, Scene, leads


def change_the_ledger(statement: str, *values: Any, **chosen: Any) -> Act:
    def act(scene: Scene) -> Any:
        scene.buy()
        scene.sql(statement, *values)
        scene.enrich(**chosen)

    return act


def other_file(scene: Scene) -> Path:
    path = scene.folder / "leads.csv"
    path.write_text("email\na@canary.example\n")
    path.chmod(0o600)
    return path


def loop_of_links(scene: Scene) -> Any:
    (scene.folder / "loop").symlink_to(scene.folder / "loop")
    scene.enrich(ledger=scene.folder / "loop" / "ledger.db")


def open_to_others(scene: Scene) -> Any:
    scene.buy()
    scene.ledger.chmod(0o644)
    scene.enrich()


def two_links(scene: Scene) -> Any:
    scene.buy()
    os.link(scene.ledger, scene.folder / "other")
    scene.enrich()


def forgetful_server(scene: Scene) -> Any:
    url = scene.postgresql.new_database()
    name = sa.make_url(url).database
    scene.postgresql.run(f"ALTER DATABASE {name} SET synchronous_commit = off")
    scene.enrich(ledger=url)


def another_ledger(scene: Scene) -> Any:
    pq.write_table(pa.table({"email": ["a@canary.example"]}), scene.folder / "in.parquet")
    with scene.enricher() as first:
        first.enrich_parquet(scene.folder / "in.parquet", scene.folder / "out.parquet")
    scene.credits_before = 1
    with scene.enricher(ledger=scene.folder / "new.db") as second:
        second.enrich_parquet(scene.folder / "in.parquet", scene.folder / "out.parquet")


def copying(*, to: str = "copy.db", statement: str | None = None, in_use: bool = False) -> Act:
    """Copy a ledger that somebody bought with; afterwards open it."""

    def act(scene: Scene) -> Any:
        if in_use:
            scene.enricher().enrich_dataframe(leads())
            scene.credits_before = scene.credits()
        else:
            scene.buy()
        if statement is not None:
            scene.sql(statement)
        Ledger(scene.folder / "other.db", endpoint="a").close()
        copy_ledger(scene.ledger, scene.folder / to)
        scene.enrich()

    return act


def copy_that_broke_off(scene: Scene) -> Any:
    Ledger(scene.ledger, endpoint="a").close()
    scene.sql("INSERT INTO meta VALUES ('incomplete_copy', x'00')")
    scene.enrich()


def clock_years_ahead(scene: Scene) -> Any:
    scene.buy()
    scene.sql("UPDATE requests SET created_at = created_at - 1e8, answered_at = answered_at - 1e8")
    scene.enrich(max_age=timedelta(days=90))


def closed(enricher: Enricher) -> Enricher:
    enricher.close()
    return enricher


def use_a_closed_enricher(scene: Scene) -> Any:
    scene.buy()
    enricher = scene.enricher()
    enricher.plan(leads())
    enricher.enrich_dataframe(leads())
    closed(enricher).plan(leads())


def another_key(scene: Scene) -> Any:
    scene.monkeypatch.setenv("EB_DAGSTER_LEDGER_KEY", base64.b64encode(b"a" * 32).decode())
    scene.buy()
    scene.monkeypatch.setenv("EB_DAGSTER_LEDGER_KEY", base64.b64encode(b"b" * 32).decode())
    scene.enrich()


def key_no_longer_set(scene: Scene) -> Any:
    scene.monkeypatch.setenv("EB_DAGSTER_LEDGER_KEY", base64.b64encode(b"a" * 32).decode())
    scene.buy()
    scene.monkeypatch.delenv("EB_DAGSTER_LEDGER_KEY")
    scene.enrich()


def bad_key(scene: Scene) -> Any:
    scene.monkeypatch.setenv("EB_DAGSTER_LEDGER_KEY", "canary-secret")
    scene.enrich()


def decide(**chosen: Any) -> Act:
    def act(scene: Scene) -> Any:
        scene.buy(faults="502@1")
        with closing(Ledger(scene.ledger, endpoint="https://a.example")) as ledger:
            resolve(ledger, **chosen)

    return act


def suppress(pairs: Any) -> Act:
    return lambda scene: scene.enricher().suppress(pairs)


def answered_twice(scene: Scene) -> Any:
    scene.buy()
    with closing(Ledger(scene.ledger, endpoint="https://a.example")) as ledger:
        ledger.record(1, http_status=200, encoding="", complete=True, body=b"{}")


def damage_in_mid_run(scene: Scene) -> Any:
    """The ledger is damaged while the run goes on; one whose database is away would be waited for."""

    def stream() -> Iterator[pa.RecordBatch]:
        schema = pa.schema([("email", pa.string())])
        for start in range(0, 2 * 40_000, 40_000):
            emails = [f"p{number}@canary.example" for number in range(start, start + 40_000)]
            if start:
                scene.sql("UPDATE requests SET keys_checksum = keys_checksum + 1")
            yield pa.RecordBatch.from_pylist([{"email": email} for email in emails], schema=schema)

    with scene.enricher(requests_per_minute=1_000_000) as enricher:
        enricher.enrich_batches(stream()).read_all()


PROVOCATIONS: Provocations = {
    "a ledger on another database": lambda s: s.enrich(ledger="mysql://a/b"),
    "a ledger that is no address": lambda s: s.enrich(ledger="postgresql://me:canary-secret@a:port/b"),
    "a ledger behind a loop of links": loop_of_links,
    "a ledger that is a folder": lambda s: s.enrich(ledger=s.folder),
    "a ledger below a file": lambda s: s.enrich(ledger=other_file(s) / "ledger.db"),
    "a ledger that is another file": lambda s: s.enrich(ledger=other_file(s)),
    "a ledger open to others": open_to_others,
    "a ledger with two links": two_links,
    "a ledger of a newer release": change_the_ledger("UPDATE meta SET value = CAST('99' AS BLOB) WHERE name = 'schema_version'"),
    "a ledger of a development version": change_the_ledger("UPDATE meta SET value = CAST('2' AS BLOB) WHERE name = 'schema_version'"),
    "a ledger whose key is damaged": change_the_ledger("UPDATE meta SET value = x'00112233445566778899aabbccddeeff' WHERE name = 'secret'"),
    "a ledger whose reply is gone": change_the_ledger("DELETE FROM replies"),
    "a ledger whose reply is damaged": change_the_ledger("UPDATE replies SET body = x'00', checksum = checksum + 1"),
    "a ledger without its table": change_the_ledger("DROP TABLE requests"),
    "a ledger that is damaged in mid-run": damage_in_mid_run,
    "a PostgreSQL that may forget": forgetful_server,
    "a table that another ledger paid for": another_ledger,
    "copying a ledger that is in use": copying(in_use=True),
    "copying a ledger that is damaged": copying(statement="UPDATE requests SET credits = 77"),
    "copying a ledger onto itself": copying(to="ledger.db"),
    "copying a ledger over another": copying(to="other.db"),
    "a ledger that was moved": copying(),
    "a copy of a ledger that broke off": copy_that_broke_off,
    "a clock that runs years ahead": clock_years_ahead,
    "a ledger that is closed": use_a_closed_enricher,
    "an enricher that is closed before its first run": lambda s: closed(s.enricher()).plan(leads()),
    "a key of the ledger that is none": bad_key,
    "a ledger whose key is not set": key_no_longer_set,
    "a ledger of another key": another_key,
    "a ledger that is not there": lambda s: Ledger(s.folder / "nowhere.db", endpoint="a", must_exist=True),
    "a request answered twice": answered_twice,
    "credits for a request that was not charged": decide(requests=[1], decision="resend", credits=1),
    "a decision about what is not in doubt": decide(requests=[7], decision="resend"),
    "more credits than are in doubt": decide(requests=[1], decision="charged", credits=99),
    "suppressing what is nobody": suppress([("email", "canary.example")]),
    "suppressing with kind and text swapped": suppress([("p@canary.example", "email")]),
    "suppressing by what is no kind": suppress([("mail", "p@canary.example")]),
    "suppressing what is no text": suppress([("email", 17)]),
    "suppressing what is no list of pairs": suppress(["p@canary.example"]),
    "forgetting what is nobody": lambda s: s.enricher().forget("email", "canary.example"),
}  # fmt: skip
