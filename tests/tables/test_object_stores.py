"""Tables in an object store: read, published whole or not at all, and rid of who is to be forgotten."""

from __future__ import annotations

import gzip
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from eb_dagster import ExactBuyerResource, build_enriched_contacts_asset
from eb_dagster.cli import main
from eb_dagster.errors import ConfigError, InputError, LedgerError
from eb_dagster.tables.object_store import ObjectPath, place
from eb_dagster.tables.parquet import open_parquet, read_metadata, write_parquet
from eb_dagster.tables.row_files import write_rows
from tests import object_stores
from tests.object_stores import ObjectStore

# One server for all.
pytestmark = pytest.mark.xdist_group("object stores")

pytest.importorskip("moto")
LEADS = pa.table({"email": [f"lead{number}@canary.example" for number in range(40)]})
TABLE = "s3://crm/made/enriched.parquet"


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectStore]:
    with object_stores.running() as server:
        yield server


def target() -> ObjectPath:
    path = place(TABLE)
    assert isinstance(path, ObjectPath)
    return path


@pytest.fixture
def store(server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    for name, value in {**object_stores.KEYS, "AWS_ENDPOINT_URL": server.url}.items():
        monkeypatch.setenv(name, value)
    server.make_bucket("crm")
    yield server
    server.fails()
    server.clear()


def put(table: pa.Table, path: str) -> None:
    write_parquet(table.to_batches(), place(path), schema=table.schema)


def read(store: ObjectStore) -> pa.Table:
    return pq.read_table(io.BytesIO(store.body("crm", "made/enriched.parquet")))


def test_a_table_is_read_from_a_store_and_published_there(store, stand_in, enricher):
    put(LEADS, "s3://crm/leads.parquet")
    api = stand_in()
    report = enricher(api).enrich_parquet("s3://crm/leads.parquet", TABLE)
    assert report.rows == 40
    table = read(store)
    assert table["email"].to_pylist() == LEADS["email"].to_pylist()
    assert table["eb_matched"].to_pylist().count(True) == api.credits() > 0
    # Nothing else is left there but the folder, which pyarrow makes.
    assert set(store.objects("crm")) == {"leads.parquet", "made/", "made/enriched.parquet"}


def test_a_second_run_costs_nothing_and_another_ledger_is_refused(store, stand_in, enricher, tmp_path):
    put(LEADS, "s3://crm/leads.parquet")
    api = stand_in()
    enricher(api).enrich_parquet("s3://crm/leads.parquet", TABLE)
    before = api.requests(), api.credits(), store.objects("crm")
    enricher(api).enrich_parquet("s3://crm/leads.parquet", TABLE)
    assert before == (api.requests(), api.credits(), store.objects("crm"))
    with pytest.raises(LedgerError, match="was paid for with a ledger that is not this one"):
        enricher(api, ledger=tmp_path / "fresh.db").enrich_parquet("s3://crm/leads.parquet", TABLE)


def test_a_run_that_breaks_off_leaves_the_old_table(store):
    put(LEADS, TABLE)

    def torn() -> Iterator[pa.RecordBatch]:
        yield from LEADS.to_batches()
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_parquet(torn(), place(TABLE), schema=LEADS.schema)
    assert read(store).equals(LEADS)


def large() -> pa.Table:
    """More than pyarrow sends in one part, of what cannot be compressed."""
    return pa.table({"noise": [os.urandom(1 << 20) for _ in range(35)]})


@pytest.mark.parametrize("fault", ["PUT .*partNumber=2", "PUT .*partNumber=4", "POST .*uploadId="])
def test_an_upload_that_fails_leaves_the_old_table(fault, store):
    put(LEADS, TABLE)
    store.fails((fault, 403))
    with pytest.raises(ConfigError, match=r"cannot be written \(access_denied\)"):
        put(large(), TABLE)
    store.fails()
    assert read(store).equals(LEADS)


UPLOAD = """
import sys
from tests.tables.test_object_stores import TABLE, large, put
table = large()
print("ready", flush=True)
put(table, TABLE)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_process_that_is_stopped_in_mid_upload_leaves_a_whole_table(number, store):
    put(LEADS, TABLE)
    with subprocess.Popen(
        [sys.executable, "-c", UPLOAD], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        until = time.monotonic() + 60
        while not store.uploads("crm") and process.poll() is None and time.monotonic() < until:
            time.sleep(0.002)
        process.send_signal(number)
    assert read(store).num_rows in (len(LEADS), 35)


def test_who_is_forgotten_is_in_no_published_object(store, stand_in, enricher):
    put(LEADS, "s3://crm/leads.parquet")
    buyer = enricher(stand_in())
    buyer.enrich_parquet("s3://crm/leads.parquet", TABLE)
    before = read(store)
    found = next(row for row in before.to_pylist() if row["eb_matched"])
    gone = buyer.forget("email", found["email"])
    assert (gone.rows, gone.tables, gone.missing_tables) == (1, 1, 0)
    assert read(store).num_rows == 39
    assert found["email"] not in str(read(store).to_pylist())
    assert read_metadata(place(TABLE)) is not None


def test_nobody_is_taken_for_forgotten_while_a_table_cannot_be_reached(store, stand_in, enricher):
    put(LEADS, "s3://crm/leads.parquet")
    buyer = enricher(stand_in())
    buyer.enrich_parquet("s3://crm/leads.parquet", TABLE)
    found = next(row for row in read(store).to_pylist() if row["eb_matched"])
    for fault in ("HEAD /crm/made", "POST /crm/made"):
        store.fails((fault, 403))
        with pytest.raises(ConfigError, match="access_denied"):
            buyer.forget("email", found["email"])
        store.fails()
    # The ledger still knows the person's other addresses, so that doing it again finds them all.
    gone = buyer.forget("email", found["email"])
    assert (gone.contacts, gone.rows) == (1, 1)
    assert gone.identifiers > 1


def test_where_nobody_may_write_nothing_is_bought(store, stand_in, enricher):
    put(LEADS, "s3://crm/leads.parquet")
    api = stand_in()
    store.fails(("(PUT|POST) /crm/made", 403))
    with pytest.raises(
        ConfigError, match=r"s3://crm/made/enriched.parquet cannot be written \(access_denied\)"
    ):
        enricher(api).enrich_parquet("s3://crm/leads.parquet", TABLE)
    with pytest.raises(ConfigError, match="cannot be written"):
        enricher(api).enrich_parquet("s3://crm/leads.parquet", "s3://nowhere/enriched.parquet")
    with pytest.raises(ConfigError, match="it is a folder"):
        enricher(api).enrich_parquet("s3://crm/leads.parquet", "s3://crm")
    assert api.requests() == 0


def test_who_may_write_need_not_be_allowed_to_delete(store):
    store.fails(("DELETE", 403))
    target().check_writable()
    target().check_writable()
    assert list(store.objects("crm")) == ["made/.enriched.parquet.tmp"]


def test_what_cannot_be_read_is_said_without_its_text(store):
    with pytest.raises(InputError, match=r"there is no file none.parquet"):
        open_parquet(place("s3://crm/none.parquet"))
    put(LEADS, TABLE)
    store.fails(("HEAD /crm/made", 403))
    with pytest.raises(ConfigError, match=r"s3://crm/made/enriched.parquet cannot be read \(access_denied\)"):
        open_parquet(place(TABLE))


@pytest.mark.usefixtures("store")
def test_a_store_that_does_not_answer_is_an_error_soon(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    started = time.monotonic()
    with pytest.raises(ConfigError, match="network_connection"):
        target().check_writable()
    assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    "address",
    [
        "s3://key:canary-secret@crm/a.parquet",
        "gs://key:canary-secret@crm/a.parquet",
        "abfss://crm@account:canary-secret/a.parquet",
        "https://crm/a.parquet",
        "s3://",
        "s3:///a.parquet",
    ],
)
def test_addresses_that_no_table_can_be_at_are_refused_and_not_shown(address):
    with pytest.raises(ConfigError) as caught:
        place(address)
    assert "canary" not in str(caught.value)


def test_a_text_in_a_store_is_read_and_written_whole_or_not_at_all(store, stand_in, tmp_path, monkeypatch):
    api = stand_in(match_rate=1.0)
    for name, value in {
        "EXACTBUYER_API_KEY": "canary-key", "EXACTBUYER_BASE_URL": api.url,
        "EB_DAGSTER_LEDGER": str(tmp_path / "ledger.db"), "TMPDIR": str(tmp_path),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    text = b"Email;n\n" + b"".join(b"p%d@canary.example;%d\n" % (number, number) for number in range(5))
    write_rows([], place("s3://crm/leads.csv"), lambda sink: Bytes(sink, text))
    write_rows([], place("s3://crm/leads.csv.gz"), lambda sink: Bytes(sink, text))
    for source, made in (
        ("leads.csv", "made.csv.gz"),
        ("leads.csv.gz", "made.ndjson"),
        ("leads.csv", "made.xlsx"),
    ):
        words = ["enrich", f"s3://crm/{source}", "-o", f"s3://crm/{made}"]
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 0, done.output
    lines = gzip.decompress(store.body("crm", "made.csv.gz")).decode().splitlines()
    assert lines[0].startswith("Email;n;eb_matched;")
    assert len(store.body("crm", "made.ndjson").splitlines()) == api.credits() == 5
    assert not [path for path in tmp_path.iterdir() if path.name.startswith((".eb", "eb_"))]


class Bytes:
    """Writes what it is given."""

    def __init__(self, sink: Any, content: bytes) -> None:
        sink.write(content)

    def add(self, batch: Any) -> None: ...
    def end(self) -> None: ...
    def close(self) -> None: ...


def test_paths_stay_paths():
    assert place("file:///folder/a.parquet") == Path("/folder/a.parquet")
    assert place("folder/a.parquet") == Path("folder/a.parquet")
    assert place(Path("a")) == Path("a")
    assert place("s3://crm/folder/") / "a.parquet" == ObjectPath("crm", "folder/a.parquet")
    from upath import UPath

    assert place(UPath("s3://crm/a.parquet")) == ObjectPath("crm", "a.parquet")


def test_the_command_line_reads_and_writes_objects(store, stand_in, tmp_path):
    put(LEADS, "s3://crm/leads.parquet")
    api = stand_in()
    settings = ["--base-url", api.url, "--ledger", str(tmp_path / "ledger.db")]
    environment = {"EXACTBUYER_API_KEY": "canary-key"}

    def run(*words: str) -> Any:
        return CliRunner().invoke(main, [*words, *settings], env=environment)

    assert run("plan", "s3://crm/leads.parquet").exit_code == 0
    done = run("enrich", "s3://crm/leads.parquet", "-o", TABLE, "--yes")
    assert (done.exit_code, f"written to {TABLE}" in done.output) == (0, True), done.output
    assert read(store).num_rows == 40
    for words in (
        ("enrich", "s3://crm/leads.parquet", "-o", "s3://crm/made.xls"), ("plan", "s3://crm/leads.csv"),
        ("plan", "s3://crm/none.parquet"), ("plan", "ftp://crm/leads.parquet"),
    ):  # fmt: skip
        assert run(*words).exit_code == 2


def test_an_asset_publishes_each_partition_and_takes_an_address_from_upstream(store, stand_in, tmp_path):
    put(LEADS, "s3://crm/leads.parquet")
    api = stand_in()
    parts = dg.StaticPartitionsDefinition(["a/b", "c"])

    @dg.asset(partitions_def=parts)
    def leads() -> str:
        return "s3://crm/leads.parquet"

    enriched = build_enriched_contacts_asset(
        name="enriched", source="leads", path="s3://crm/parts", partitions_def=parts
    )
    resource = ExactBuyerResource(api_key="canary-key", base_url=api.url, ledger=str(tmp_path / "ledger.db"))
    made = dg.materialize([leads, enriched], resources={"exactbuyer": resource}, partition_key="a/b")
    (event,) = made.asset_materializations_for_node("enriched")
    address = event.metadata["dagster/uri"].value
    assert address == "s3://crm/parts/a%2Fb.parquet"
    assert "parts/a%2Fb.parquet" in store.objects("crm")
    with open_parquet(place(address)) as file:
        assert file.metadata.num_rows == 40


def test_an_object_from_upstream_goes_to_an_io_manager(store, stand_in, tmp_path):
    put(LEADS, "s3://crm/leads.parquet")
    api = stand_in()

    @dg.asset
    def leads() -> str:
        return "s3://crm/leads.parquet"

    resource = ExactBuyerResource(api_key="canary-key", base_url=api.url, ledger=str(tmp_path / "ledger.db"))
    enriched = build_enriched_contacts_asset(name="enriched", source="leads", path=None)
    made = dg.materialize([leads, enriched], resources={"exactbuyer": resource})
    assert len(made.asset_value("enriched")) == 40
    assert list(store.objects("crm")) == ["leads.parquet"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.usefixtures("store")
def test_a_published_object_is_loaded_into_a_warehouse(stand_in, enricher, tmp_path):
    dlt = pytest.importorskip("dlt")
    from eb_dagster.warehouse import load_contacts

    put(LEADS, "s3://crm/leads.parquet")
    api = stand_in()
    enricher(api).enrich_parquet("s3://crm/leads.parquet", TABLE)
    database = str(tmp_path / "warehouse.duckdb")
    load_contacts(TABLE, dlt.destinations.duckdb(database), dataset="crm")
    with duckdb.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM crm.contacts").fetchall() == [(api.credits(),)]


def test_an_upload_that_fails_after_the_purchase_says_what_was_spent(store, stand_in, enricher):
    put(LEADS, "s3://crm/leads.parquet")
    api = stand_in(match_rate=1.0)
    store.fails((r"(POST|PUT) /crm/made/enriched\.parquet", 403))
    with pytest.raises(ConfigError, match=f"This run was charged {LEADS.num_rows} credits"):
        enricher(api).enrich_parquet("s3://crm/leads.parquet", TABLE)
    assert api.credits() == LEADS.num_rows
    store.fails()
    enricher(api).enrich_parquet("s3://crm/leads.parquet", TABLE)
    assert api.credits() == LEADS.num_rows
