"""What a warehouse holds after loads, asked of the warehouses themselves."""

from __future__ import annotations

import datetime
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eb_dagster.contacts.flatten import as_json, contact_arrays
from eb_dagster.contacts.schema import arrow_schema
from eb_dagster.contacts.tolerant_parser import read_contact
from eb_dagster.errors import ConfigError, InputError, Refused
from eb_dagster.tables.parquet import write_parquet
from tests.databases import PostgreSQL
from tests.tables.test_types import FAR, NO_PARQUET, PASS

dlt = pytest.importorskip("dlt")
from eb_dagster.warehouse import contacts_source, load_contacts  # noqa: E402

# dlt's own, and those of the libraries under it.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

TABLES = (
    "contacts", "contact_emails", "contact_phones", "contact_social_profiles", "contact_education",
    "contact_experiences",
)  # fmt: skip
PEOPLE = 12


def person(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "full_name": f"Canary {number}", "current_work_email": f"canary{number}@work.example",
        "personal_emails": [f"canary{number}@home.example"],
        "phone_numbers": [{"E164": f"+1415555{number:04}"}],
        "social_profiles": [
            {"network": "linkedin", "url": f"linkedin.com/in/canary{number}"}, {"network": "github", "url": None},
        ],
        "employment": {"name": "Acme", "job": {"title": "Engineer"}},
        "education": [{"school": {"name": "Here"}, "degrees": ["BSc"]}, "There"],
        "experiences": [{"company": {"name": "Before"}, "title": {"name": "Junior"}, "start_date": 2001}],
        **changes,
    }  # fmt: skip


def enriched(people: dict[int, dict[str, Any] | None], *, day: int = 1) -> pa.Table:
    """An enriched table as this package writes it: one row a lead, found or not."""
    when = datetime.datetime(2026, 1, day, tzinfo=datetime.UTC)
    contacts = [None if one is None else read_contact(json.dumps(one).encode()) for one in people.values()]
    found = [one is not None for one in people.values()]
    status: list[Any] = [
        found, ["matched" if one else "not_found" for one in found], ["email"] * len(found),
        [f"canary{number}@work.example" for number in people], [False] * len(found), [when] * len(found),
    ]  # fmt: skip
    own = pa.schema([("Lead Id", pa.int64()), ("Tags", pa.list_(pa.string()))])
    schema = pa.schema([*own, *arrow_schema()])
    arrays = [
        pa.array(list(people), pa.int64()), pa.array([["a", "b"]] * len(found), pa.list_(pa.string())),
        *(pa.array(values, type=schema.field(at + 2).type) for at, values in enumerate(status)),
        *contact_arrays(contacts),
    ]  # fmt: skip
    return pa.table(arrays, schema=schema)


def everybody(*, but: int = 0, **changes: Any) -> dict[int, dict[str, Any] | None]:
    """The people with numbers from 1, and one lead whom nobody knows; changes are made to number 3."""
    people = {n: person(n, **(changes if n == 3 else {})) for n in range(1, PEOPLE + 1) if n != but}
    return {**people, 99: None}


class Warehouse:
    """One target, with its own way of being asked."""

    def __init__(self, destination: Callable[[], Any], ask: Callable[[str], list[tuple[Any, ...]]]) -> None:
        self.destination, self.ask = destination, ask

    def load(self, table: Any, **settings: Any) -> Any:
        return load_contacts(table, self.destination(), dataset="crm", **settings)

    def counts(self, *more: str) -> list[int]:
        return [self.ask(f"SELECT count(*) FROM crm.{name}")[0][0] for name in (*TABLES, *more)]


@pytest.fixture(params=["duckdb", "postgresql"])
def warehouse(request: pytest.FixtureRequest, tmp_path: Path) -> Warehouse:
    if request.param == "duckdb":
        database = str(tmp_path / "warehouse.duckdb")

        def ask(query: str) -> list[tuple[Any, ...]]:
            with duckdb.connect(database, read_only=True) as connection:
                return connection.execute(query).fetchall()

        return Warehouse(lambda: dlt.destinations.duckdb(database), ask)
    server: PostgreSQL = request.getfixturevalue("postgresql")
    url = server.new_database()
    name = urlsplit(url).path.strip("/")
    return Warehouse(lambda: postgres(url), lambda query: server.run(query, name=name))


def postgres(url: str) -> Any:
    """A PostgreSQL on a socket. In dlt's own form, an address has a host and a password."""
    parts = urlsplit(url)
    return dlt.destinations.postgres(
        f"postgresql://{parts.username or 'postgres'}:none@localhost{parts.path}?{parts.query}"
    )


@pytest.fixture
def publish(tmp_path: Path) -> Callable[..., Path]:
    def write(people: dict[int, dict[str, Any] | None], **more: Any) -> Path:
        table = enriched(people, **more)
        path = tmp_path / "enriched.parquet"
        write_parquet(table.to_batches(max_chunksize=5), path, schema=table.schema)
        return path

    return write


FULL = [PEOPLE, 2 * PEOPLE, PEOPLE, 2 * PEOPLE, 2 * PEOPLE, PEOPLE]


def test_a_second_load_adds_no_row_and_changes_no_key(warehouse, publish):
    table = publish(everybody())
    warehouse.load(table)
    assert warehouse.counts() == FULL
    keys = [warehouse.ask(f"SELECT * FROM crm.{name} ORDER BY 1, 2") for name in TABLES]
    warehouse.load(table)
    assert warehouse.counts() == FULL
    assert keys == [warehouse.ask(f"SELECT * FROM crm.{name} ORDER BY 1, 2") for name in TABLES]


def test_a_contact_bought_again_updates_in_place_and_its_parts_too(warehouse, publish):
    warehouse.load(publish(everybody()))
    before = warehouse.ask("SELECT contact_id FROM crm.contacts ORDER BY 1")
    changed = everybody(
        full_name="Canary Three", personal_emails=[], phone_numbers=[], education=[{"school": "New"}]
    )
    warehouse.load(publish(changed, day=2))
    assert warehouse.counts() == [12, 23, 11, 24, 23, 12]
    assert warehouse.ask("SELECT contact_id FROM crm.contacts ORDER BY 1") == before
    query = "SELECT e.school_name FROM crm.contact_education e JOIN crm.contacts c USING (contact_id) WHERE lead_id = 3"
    assert warehouse.ask(query) == [("New",)]


def test_a_forgotten_person_is_gone_after_the_next_load(warehouse, publish):
    warehouse.load(publish(everybody()), history=True)
    warehouse.load(publish(everybody(but=7)), history=True)
    assert warehouse.counts("contact_job_history") == [11, 22, 11, 22, 22, 11, 11]
    for name in TABLES:
        assert "canary7@" not in str(warehouse.ask(f"SELECT * FROM crm.{name}"))
    # Nor is anybody left where dlt staged them.
    assert warehouse.ask("SELECT count(*) FROM crm_staging.contacts") == [(0,)]


def test_the_last_person_is_deleted_as_well(warehouse, publish):
    warehouse.load(publish({1: person(1)}))
    warehouse.load(publish({1: None}))
    assert warehouse.counts() == [0] * 6
    warehouse.load(publish({1: person(1)}))
    warehouse.load(publish({}))
    assert warehouse.counts() == [0] * 6


def test_a_stream_replaces_the_people_in_it_and_nobody_else(warehouse, publish):
    warehouse.load(publish(everybody()), history=True)
    part = enriched({3: person(3, phone_numbers=[], full_name="Canary Three"), 50: person(50)})
    warehouse.load(part.to_reader(max_chunksize=1), history=True)
    assert warehouse.counts("contact_job_history") == [13, 26, 12, 26, 26, 13, 13]
    assert warehouse.ask("SELECT eb_full_name FROM crm.contacts WHERE lead_id = 3") == [("Canary Three",)]
    warehouse.load(publish(everybody()), history=True)
    assert warehouse.counts("contact_job_history") == [*FULL, 12]


def test_an_enrichment_flows_straight_in_and_a_second_one_costs_nothing(warehouse, stand_in, enricher):
    api = stand_in()
    buyer = enricher(api)
    leads = pa.table({"email": [f"lead{number}@canary.example" for number in range(40)]})
    warehouse.load(buyer.enrich_batches(leads))
    found = warehouse.counts()
    assert found[0] == api.credits() > 0
    warehouse.load(buyer.enrich_batches(leads))
    assert warehouse.counts() == found
    assert api.credits() == found[0]


def test_what_stops_an_enrichment_that_is_loaded_as_it_streams_is_told_as_it_is(tmp_path, stand_in, enricher):
    leads = pa.table({"email": ["lead@canary.example"]})
    with pytest.raises(Refused, match="HTTP 403") as refusal:
        load_contacts(
            enricher(stand_in(credits=0)).enrich_batches(leads),
            dlt.destinations.duckdb(str(tmp_path / "warehouse.duckdb")),
            dataset="crm",
        )
    assert refusal.value.status == 403


def test_a_load_that_fails_never_says_that_nothing_was_sent_of_an_enrichment_that_streams(
    tmp_path, stand_in, enricher
):
    database = str(tmp_path / "warehouse.duckdb")
    with duckdb.connect(database) as connection:
        connection.execute("CREATE SCHEMA crm; CREATE TABLE crm.contacts (contact_id TEXT, eb_full_name INT)")
    api = stand_in(match_rate=1.0)
    stream = enricher(api).enrich_batches(pa.table({"email": ["lead@canary.example"]}))
    with pytest.raises(ConfigError, match="Whatever was bought is in the ledger"):
        load_contacts(stream, dlt.destinations.duckdb(database), dataset="crm")
    assert api.credits() == 1


def test_a_stream_with_columns_of_other_types_is_refused_before_it_buys(tmp_path, stand_in, enricher):
    api = stand_in(match_rate=1.0)
    buyer, target = enricher(api), dlt.destinations.duckdb(str(tmp_path / "warehouse.duckdb"))
    leads = pa.table({"email": ["a@canary.example"], "score": [1]})
    load_contacts(buyer.enrich_batches(leads), target, dataset="crm")
    others = pa.table({"email": ["b@canary.example"], "score": [0.5]})
    with pytest.raises(InputError, match=r"\(score: bigint there, double here\)"):
        load_contacts(buyer.enrich_batches(others), target, dataset="crm")
    assert api.credits() == 1


def with_types(columns: dict[str, pa.Array]) -> pa.Table:
    """Three people with columns of these types."""
    table = enriched({number: person(number) for number in (1, 2, 3)})
    for name, array in columns.items():
        table = table.append_column(name, array)
    return table


def test_every_type_arrives_as_itself_or_as_text_that_loses_nothing(warehouse):
    is_postgres = "postgres" in str(warehouse.destination().destination_name)
    known = {
        kind: array
        for kind, array in {**PASS, **NO_PARQUET}.items()
        if kind not in FAR and kind != "list" and not ("binary" in kind.partition("<")[0] and is_postgres)
    }
    whole = {
        kind: pa.array([1000, None, 3000], array.type) if BELOW.search(kind) else array
        for kind, array in known.items()
    }
    warehouse.load(with_types({f"c{at}": array for at, array in enumerate(whole.values())}).to_reader())
    there = {name for table, name in columns(warehouse) if table == "contacts"}
    nothing = {f"c{at}" for at, kind in enumerate(whole) if "null" in kind.replace("<item: null>", "")}
    assert {f"c{at}" for at in range(len(whole))} - there == nothing
    for at, (kind, array) in enumerate(whole.items()):
        if f"c{at}" in there:
            ((count,),) = warehouse.ask(f"SELECT count(c{at}) FROM crm.contacts")
            assert count == sum(one.is_valid for one in array), kind
    for kind, first in (
        ("duration[s]", "PT1S"), ("duration[ns]", "PT0.000000001S"), ("month_day", "P1M2DT0.000000003S"),
        ("arrow.uuid", "30313233-3435-3637-3839-616263646566"), ("arrow.json", '{"a":1}'), ("decimal256", "1.00"),
        (" uint64", str(2**64 - 1)), (" struct<a", '{"a":1,"b":"x"}'), ("dense_union", '"a"'), ("string_view", "a"),
        ("timestamp[ns]", "1970-01-01 00:00:00.000001"), ("time64[ns]", "00:00:00.000001"),
    ):  # fmt: skip
        at = next(at for at, name in enumerate(whole) if kind in name)
        ((value,),) = warehouse.ask(f"SELECT c{at}::VARCHAR FROM crm.contacts WHERE lead_id = 1")
        # dlt takes a moment without a zone for UTC.
        assert value.removesuffix("+00") == first, kind


BELOW = re.compile(r"^\d+ (timestamp|time64)\[ns")


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1, None, 3], pa.timestamp("ns")),
        pa.array([1, None, 3], pa.time64("ns")),
        pa.array([10**7, None, 1], pa.date32()),
    ],
    ids=lambda values: str(values.type),
)
def test_a_value_that_a_warehouse_would_cut_is_refused_with_its_column(values, tmp_path):
    target = dlt.destinations.duckdb(str(tmp_path / "warehouse.duckdb"))
    with pytest.raises(
        InputError, match=rf"column 'When' \({re.escape(str(values.type))}\) .*; round them, or cast"
    ):
        load_contacts(with_types({"When": values}).to_reader(), target, dataset="crm")


def test_bytes_for_postgresql_are_refused_before_anything_is_bought(stand_in, enricher, postgresql):
    api = stand_in(match_rate=1.0)
    leads = pa.table({"email": ["a@canary.example"], "Photo": [b"canary"]})
    with pytest.raises(
        InputError, match=r"columns 'photo' \(binary\).*PostgreSQL; cast them to text. Nothing was changed"
    ):
        load_contacts(enricher(api).enrich_batches(leads), postgres(postgresql.new_database()), dataset="crm")
    assert api.requests() == 0


def test_lists_that_were_written_as_json_or_rewritten_since_make_the_same_tables(tmp_path):
    database = str(tmp_path / "warehouse.duckdb")
    table = enriched(everybody())
    lists = [one.name for one in arrow_schema() if pa.types.is_list(one.type)]
    ways = {
        "list": lambda column: column,
        "json": as_json,
        "large": lambda column: column.cast(pa.large_list(column.type.value_type)),
    }
    rows = []
    for way in ways.values():
        arrays = [
            way(one.combine_chunks()) if name in lists else one
            for name, one in zip(table.column_names, table.columns, strict=True)
        ]
        load_contacts(
            pa.Table.from_arrays(arrays, table.column_names).to_reader(),
            dlt.destinations.duckdb(database),
            dataset="crm",
            is_whole=True,
        )
        with duckdb.connect(database, read_only=True) as connection:
            rows.append(
                [
                    connection.execute(f"SELECT * FROM crm.{name} ORDER BY 1, 2").fetchall()
                    for name in TABLES[1:]
                ]
            )
    assert rows[0] == rows[1] == rows[2]
    assert len(rows[0][0]) == 2 * PEOPLE


def test_history_keeps_each_job_and_when_it_ended(warehouse, publish):
    warehouse.load(publish(everybody()), history=True)
    warehouse.load(publish(everybody()), history=True)
    assert warehouse.counts("contact_job_history")[-1] == 12
    moved = everybody(employment={"name": "Beta", "job": {"title": "Lead"}})
    warehouse.load(publish(moved, day=2), history=True)
    query = (
        "SELECT eb_company_name, eb_job_title, _dlt_valid_to IS NULL FROM crm.contact_job_history h "
        "JOIN crm.contacts c USING (contact_id) WHERE c.lead_id = 3 ORDER BY 3"
    ).replace("eb_company_name, eb_job_title", "h.eb_company_name, h.eb_job_title")
    assert warehouse.ask(query) == [("Acme", "Engineer", False), ("Beta", "Lead", True)]


def columns(warehouse: Warehouse) -> dict[tuple[str, str], tuple[str, str]]:
    """Type and nullability of every column of every table."""
    return {
        (table, name): (kind.split("(")[0].lower(), nullable)
        for table, name, kind, nullable in warehouse.ask(
            "SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns "
            "WHERE table_schema = 'crm' AND table_name LIKE 'contact%' ORDER BY table_name, ordinal_position"
        )
    }


def test_types_comments_and_nullability_arrive(warehouse, publish):
    warehouse.load(publish(everybody()))
    found = columns(warehouse)
    text = {"varchar", "character varying", "text"}
    assert found["contacts", "eb_matched"] == ("boolean", "YES")
    assert found["contacts", "eb_enriched_at"] == ("timestamp with time zone", "YES")
    assert found["contacts", "lead_id"] == ("bigint", "YES")
    assert found["contacts", "eb_full_name"][0] in text
    assert {key for key, (_, nullable) in found.items() if nullable == "NO"} == {
        ("contacts", "eb_status"), ("contacts", "eb_from_ledger"),
        *((table, "contact_id") for table in TABLES), *((table, "position") for table in TABLES[1:]),
    }  # fmt: skip
    assert not [name for _, name in found if name.startswith("_dlt")]
    if "duckdb" in str(warehouse.destination().destination_name):
        noted = warehouse.ask(
            "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE schema_name = 'crm'"
        )
    else:
        noted = warehouse.ask(
            "SELECT c.relname, a.attname, col_description(c.oid, a.attnum) FROM pg_attribute a "
            "JOIN pg_class c ON c.oid = a.attrelid WHERE c.relnamespace = 'crm'::regnamespace"
        )
    comments = {(table, name): comment for table, name, comment in noted}
    assert comments["contacts", "eb_work_email"] == "Current work e-mail, else the first one."
    assert comments["contact_emails", "position"] == "Place in the vendor's list, from 0."
    # The columns of the user's own have none.
    assert {key for key in found if not comments[key]} == {("contacts", "lead_id"), ("contacts", "tags")}


def test_a_column_that_is_new_is_added_and_the_others_stay(warehouse, publish):
    table = publish(everybody())
    narrow = pq.read_table(table).drop_columns(["eb_gender", "eb_phones"])
    write_parquet(narrow.to_batches(), table, schema=narrow.schema)
    warehouse.load(table)
    before = columns(warehouse)
    warehouse.load(publish(everybody(gender="f")))
    assert warehouse.counts() == FULL
    assert warehouse.ask("SELECT eb_gender FROM crm.contacts WHERE lead_id = 3") == [("f",)]
    after = columns(warehouse)
    assert {key: after[key] for key in before} == before
    assert {name for table, name in after.keys() - before if table == "contacts"} == {"eb_gender"}


def test_what_the_vendor_invents_changes_no_table(warehouse, publish):
    warehouse.load(publish(everybody()))
    before = columns(warehouse)
    odd = everybody(
        full_name=["Canary", 3], gender={"new": "kind"}, invented={"new": "key"}, phone_numbers="none",
        personal_emails=[{"address": 7}], education=7, experiences={"title": [[]], "new": 1}, employment=[1],
    )  # fmt: skip
    warehouse.load(publish(odd))
    assert columns(warehouse) == before
    assert warehouse.counts()[0] == PEOPLE
    ((other,),) = warehouse.ask("SELECT eb_other FROM crm.contacts WHERE lead_id = 3")
    assert "invented" in other


def with_own(table: Path, name: str, values: pa.Array) -> Path:
    rows = pq.read_table(table).append_column(name, values)
    write_parquet(rows.to_batches(), table, schema=rows.schema)
    return table


def test_a_column_of_the_users_that_has_another_type_than_before_is_refused(warehouse, publish):
    whole = [*range(PEOPLE + 1)]
    warehouse.load(with_own(publish(everybody()), "Score", pa.array(whole)))
    before = columns(warehouse)
    halves = pa.array([one + 0.5 for one in whole])
    # DuckDB would have rounded them.
    with pytest.raises(InputError, match=r"\(score: bigint there, double here\)"):
        warehouse.load(with_own(publish(everybody(full_name="New")), "Score", halves))
    assert columns(warehouse) == before
    assert warehouse.ask("SELECT eb_full_name, score FROM crm.contacts WHERE lead_id = 3") == [
        ("Canary 3", 2)
    ]
    # Without a value it has no type.
    warehouse.load(with_own(publish(everybody()), "Score", pa.nulls(PEOPLE + 1)))
    assert columns(warehouse) == before
    assert warehouse.ask("SELECT count(*), count(score) FROM crm.contacts") == [(PEOPLE, 0)]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("contact_id", "would both be 'contact_id'"),
        ("Contact Id", "would both be 'contact_id'"),
        ("EB full name", "would both be 'eb_full_name'"),
        ("_dlt_id", "cannot be called '_dlt_id'"),
        ("", "cannot be called ''"),
    ],
)
def test_a_column_of_the_users_that_would_be_another_one_there_is_refused(name, said, publish, tmp_path):
    database = tmp_path / "warehouse.duckdb"
    table = with_own(publish(everybody()), name, pa.array(range(PEOPLE + 1)))
    with pytest.raises(InputError, match=said):
        load_contacts(table, dlt.destinations.duckdb(str(database)), dataset="crm")


def test_the_users_own_key_keeps_two_leads_with_one_address_apart(warehouse, publish):
    table = publish(everybody())
    rows = pq.read_table(table)
    query = rows.schema.get_field_index("eb_query")
    same = rows.set_column(query, rows.schema.field(query), pa.array(["same@work.example"] * len(rows)))
    write_parquet(same.to_batches(), table, schema=same.schema)
    warehouse.load(table, key="Lead Id")
    assert warehouse.counts() == FULL
    warehouse.load(table)
    assert warehouse.counts() == [1, 2, 1, 2, 2, 1]


def test_a_key_that_is_not_unique_is_refused_without_a_name(warehouse, publish):
    table = publish(everybody())
    with pytest.raises(InputError, match=r"row 1 has the same \['eb_status'\] as one before"):
        warehouse.load(table, key="eb_status")
    with pytest.raises(InputError, match=r"row 0 has no value in \['eb_gender'\]"):
        warehouse.load(table, key="eb_gender")
    with pytest.raises(InputError, match="no columns"):
        warehouse.load(table, key="LeadNumber")


def test_dlt_keeps_nobody_in_files_and_tells_nobody(warehouse, publish, tmp_path, capfd, caplog):
    caplog.set_level(logging.DEBUG)
    work = tmp_path / "work"
    work.mkdir()
    warehouse.load(publish(everybody()), folder=work)
    assert list(work.iterdir()) == []
    shown = capfd.readouterr()
    assert "canary" not in (shown.out + shown.err + caplog.text).lower().replace(str(tmp_path).lower(), "")


# Another pipeline of the same process, before and after a load of ours; dlt's makers are this machine.
TOLD = """
import logging, os, sys, threading, time
from http.server import BaseHTTPRequestHandler, HTTPServer
told = []

class Makers(BaseHTTPRequestHandler):
    def do_POST(self):
        told.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass

makers = HTTPServer(("127.0.0.1", 0), Makers)
threading.Thread(target=makers.serve_forever, daemon=True).start()
os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "true"
os.environ["RUNTIME__DLTHUB_TELEMETRY_ENDPOINT"] = f"http://127.0.0.1:{makers.server_port}"
before = dict(os.environ)
import dlt
from dlt.common import logger
table, folder = sys.argv[1:]

def run_another():
    pipeline = dlt.pipeline("another", destination=dlt.destinations.duckdb(f"{folder}/another.duckdb"), dataset_name="a", pipelines_dir=f"{folder}/p")
    pipeline.run([{"x": 1}], table_name="xs", write_disposition="replace")
    logger.warning("heard")
    time.sleep(1)
    return pipeline, len(told)

from eb_dagster.warehouse import load_contacts
assert dict(os.environ) == before
ORDER
"""
RUNS = {
    "ours first": """
load_contacts(table, dlt.destinations.duckdb(f"{folder}/ours.duckdb"), dataset="crm")
time.sleep(1)
assert told == [], told
assert run_another()[1] > 0
""",
    "ours second": """
pipeline, count = run_another()
assert count > 0
load_contacts(table, dlt.destinations.duckdb(f"{folder}/ours.duckdb"), dataset="crm")
time.sleep(1)
assert len(told) == count, told
assert dlt.current.pipeline() is pipeline
assert run_another()[1] > count
""",
}


@pytest.mark.parametrize("order", RUNS)
def test_another_pipeline_of_the_process_finds_dlt_as_its_owner_set_it(order, publish, tmp_path):
    script = TOLD.replace("ORDER", RUNS[order] + 'assert dict(os.environ) == before\nprint("done")')
    (tmp_path / "work").mkdir()
    words = [sys.executable, "-c", script, str(publish(everybody())), str(tmp_path / "work")]
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "DLT_DATA_DIR": str(tmp_path)},
    )
    assert done.stdout == "done\n", done.stderr
    assert "heard" in done.stderr
    assert "canary" not in done.stderr


@pytest.mark.parametrize(("module", "extra"), [("warehouse", "dlt"), ("spark", "pyspark")])
def test_without_its_extra_the_import_says_what_to_install(module, extra):
    script = f"import sys; sys.modules[{extra!r}] = None\nimport eb_dagster.{module}"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr.endswith(
        f'ModuleNotFoundError: eb_dagster.{module} needs {extra}: pip install "eb-dagster[{module}]"\n'
    )


LOAD = """
import sys, dlt
from eb_dagster.warehouse import load_contacts
table, database, folder = sys.argv[1:]
load_contacts(table, dlt.destinations.duckdb(database), dataset="crm", folder=folder)
"""


def test_a_load_that_fails_tells_no_values_and_leaves_no_files(publish, tmp_path):
    work, database = tmp_path / "work", tmp_path / "warehouse.duckdb"
    work.mkdir()
    with duckdb.connect(str(database)) as connection:
        connection.execute("CREATE SCHEMA crm; CREATE TABLE crm.contacts (contact_id TEXT, eb_full_name INT)")
    # In a process of its own, whose log is as dlt leaves it.
    words = [sys.executable, "-c", LOAD, str(publish(everybody())), str(database), str(work)]
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("RUNTIME__")}
    done = subprocess.run(words, env=quiet, capture_output=True, text=True, timeout=120, check=False)
    assert "ConfigError: dlt could not load the contacts (ConversionException)" in done.stderr
    assert "canary" not in (done.stdout + done.stderr).lower()
    assert list(work.iterdir()) == []


# pyiceberg says that a first load deletes nothing.
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["delta", "iceberg"])
def test_a_lake_on_local_files_is_replaced_as_a_whole(kind, publish, tmp_path, monkeypatch):
    pytest.importorskip({"delta": "deltalake", "iceberg": "pyiceberg"}[kind])
    monkeypatch.chdir(tmp_path)
    lake = tmp_path / "lake"
    destination = dlt.destinations.filesystem(bucket_url=str(lake))

    def rows(name: str) -> int:
        folder = lake / "crm" / name
        if kind == "delta":
            import deltalake

            return deltalake.DeltaTable(str(folder)).to_pyarrow_table().num_rows
        from pyiceberg.table import StaticTable

        newest = max((folder / "metadata").glob("*.metadata.json"))
        return StaticTable.from_metadata(str(newest)).scan().to_arrow().num_rows

    for people, expected in (
        (everybody(), FULL), (everybody(), FULL), (everybody(but=7), [11, 22, 11, 22, 22, 11]),
    ):  # fmt: skip
        load_contacts(publish(people), destination, dataset="crm", table_format=kind)
        assert [rows(name) for name in TABLES] == expected


def test_settings_that_do_not_go_together_are_refused(publish):
    table = publish(everybody())
    with pytest.raises(ConfigError, match="history"):
        contacts_source(table, table_format="delta", history=True)
    with pytest.raises(ConfigError, match="as a whole"):
        contacts_source(enriched(everybody()).to_reader(), table_format="delta")


def test_a_setting_that_dlt_misses_is_named(publish, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"dlt has no .'credentials'. for this destination"):
        load_contacts(publish(everybody()), "postgres", dataset="crm")


def test_entries_of_any_shape_are_rows(publish, tmp_path):
    database = str(tmp_path / "warehouse.duckdb")
    odd = everybody(education={"school": 7}, experiences=["ten years", {"company": {"name": ["Acme"]}}, None])
    load_contacts(publish(odd), dlt.destinations.duckdb(database), dataset="crm")
    with duckdb.connect(database) as connection:
        query = (
            "SELECT {} FROM crm.{} JOIN crm.contacts USING (contact_id) WHERE lead_id = 3 ORDER BY position"
        )
        assert connection.execute(query.format("school_name", "contact_education")).fetchall() == [("7",)]
        rows = connection.execute(query.format("company_name, entry", "contact_experiences")).fetchall()
    assert rows == [("ten years", '"ten years"'), ("Acme", '{"company":{"name":["Acme"]}}'), (None, "null")]


def test_a_table_that_is_not_enriched_is_refused(tmp_path):
    pq.write_table(pa.table({"Email": ["canary@work.example"]}), tmp_path / "leads.parquet")
    with pytest.raises(InputError, match="no enriched table"):
        load_contacts(
            tmp_path / "leads.parquet", dlt.destinations.duckdb(str(tmp_path / "w.duckdb")), dataset="crm"
        )


IN_A_CLOUD = {
    # As dlt documents them; nobody has an account with these.
    "snowflake": (
        lambda: dlt.destinations.snowflake("snowflake://loader:none@account/crm?warehouse=small&role=loader"),
        '"CRM"."CONTACTS"', '"EB_FROM_LEDGER" BOOLEAN NOT NULL COMMENT \'Answered',
        '"EB_ENRICHED_AT" TIMESTAMP_LTZ COMMENT',
    ),
    "bigquery": (
        lambda: dlt.destinations.bigquery(
            {"project_id": "crm", "client_email": "loader@crm.example", "private_key": "none"}, location="EU"
        ),
        "`crm`.`crm`.`contacts`", "`eb_from_ledger` BOOL NOT NULL OPTIONS (description='Answered",
        "`eb_enriched_at` TIMESTAMP OPTIONS",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", IN_A_CLOUD)
def test_where_nothing_can_be_run_dlt_compiles_the_same_tables_and_merges(name, publish, tmp_path):
    pytest.importorskip({"snowflake": "snowflake.connector", "bigquery": "google.cloud.bigquery"}[name])
    destination, contacts, flag, moment = IN_A_CLOUD[name]
    pipeline = dlt.pipeline(
        "exactbuyer", destination=destination(), dataset_name="crm", pipelines_dir=str(tmp_path)
    )
    pipeline.extract(contacts_source(publish(everybody()), history=True))
    pipeline.normalize()
    client = pipeline.destination_client()
    created = {
        table: " ".join(
            client._get_table_update_sql(table, client._create_table_update(table, {}), False)[0].split()
        )
        for table in (*TABLES, "contact_job_history")
    }
    assert created["contacts"].startswith(f"CREATE TABLE {contacts}")
    assert flag in created["contacts"]
    assert moment in created["contacts"]
    assert "_dlt" not in created["contacts"]
    assert all("Who this is, in each load the same." in one for one in created.values())
    for table in TABLES:
        (job,) = client._create_merge_followup_jobs([client.prepare_load_table(table)])
        gone, added = Path(job._file_path).read_text("utf-8").split(";")
        assert (
            gone
            == f"DELETE FROM {contacts.replace('contacts', table).replace('CONTACTS', table.upper())} WHERE 1 = 1"
        )
        assert added.lstrip().startswith("INSERT INTO")
    assert {"delete-insert", "scd2"} <= set(client.capabilities.supported_merge_strategies)


def test_a_dataset_of_the_files_own_name_is_told_with_what_to_do(publish, tmp_path):
    destination = dlt.destinations.duckdb(str(tmp_path / "crm.duckdb"))
    with pytest.raises(ConfigError, match="the dataset has the name of the database's file") as told:
        load_contacts(publish(everybody()), destination, dataset="crm")
    assert "run it again" not in str(told.value)
    assert load_contacts(publish(everybody()), destination, dataset="sales")["contacts"] == PEOPLE
