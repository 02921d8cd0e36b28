"""What a warehouse holds after loads, asked of the warehouses themselves."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eb_dagster.errors import ConfigError, InputError, Refused
from eb_dagster.tables.parquet import write_parquet
from tests.warehouse.enriched_tables import FULL, PEOPLE, TABLES, enriched, everybody, person, with_own

dlt = pytest.importorskip("dlt")
from eb_dagster.warehouse import load_contacts  # noqa: E402
from tests.warehouse.warehouses import IGNORED_WARNINGS, columns, postgres  # noqa: E402

pytestmark = IGNORED_WARNINGS


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


def test_bytes_for_postgresql_are_refused_before_anything_is_bought(stand_in, enricher, postgresql):
    api = stand_in(match_rate=1.0)
    leads = pa.table({"email": ["a@canary.example"], "Photo": [b"canary"]})
    with pytest.raises(
        InputError, match=r"columns 'photo' \(binary\).*PostgreSQL; cast them to text. Nothing was changed"
    ):
        load_contacts(enricher(api).enrich_batches(leads), postgres(postgresql.new_database()), dataset="crm")
    assert api.requests() == 0


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


def test_a_column_of_the_users_that_has_another_type_than_before_is_refused(warehouse, publish):
    whole = [*range(PEOPLE + 1)]
    warehouse.load(with_own(publish(everybody()), "Score", pa.array(whole)))
    before = columns(warehouse)
    halves = pa.array([number + 0.5 for number in whole])
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


def test_a_setting_that_dlt_misses_is_named(publish, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"dlt has no .'credentials'. for this destination"):
        load_contacts(publish(everybody()), "postgres", dataset="crm")


def test_a_dataset_of_the_files_own_name_is_told_with_what_to_do(publish, tmp_path):
    destination = dlt.destinations.duckdb(str(tmp_path / "crm.duckdb"))
    with pytest.raises(ConfigError, match="the dataset has the name of the database's file") as told:
        load_contacts(publish(everybody()), destination, dataset="crm")
    assert "run it again" not in str(told.value)
    assert load_contacts(publish(everybody()), destination, dataset="sales")["contacts"] == PEOPLE
