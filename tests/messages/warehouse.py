"""Tables that a warehouse cannot take."""

from typing import Any

import dlt
import pyarrow as pa
import pyarrow.parquet as pq

from eb_dagster.warehouse import contacts_source, enrich_query, load_contacts
from tests.messages.scene import Provocations, Scene
from tests.warehouse.warehouses import postgres


def load(scene: Scene, table: pa.Table, destination: Any = None, **settings: Any) -> None:
    path = scene.folder / "table.parquet"
    pq.write_table(table, path)
    scene.monkeypatch.chdir(scene.folder)
    database = dlt.destinations.duckdb(str(scene.folder / "warehouse.duckdb"))
    chosen: dict[str, Any] = {"dataset": "crm", **settings}
    load_contacts(path, destination or database, **chosen)


FOUND = pa.table({
    "id": ["1", "1", None], "eb_matched": [True] * 3, "eb_field_type": ["email"] * 3,
    "eb_query": ["a@canary.example", "b@canary.example", "c@canary.example"],
})  # fmt: skip


def retyped(scene: Scene) -> None:
    load(scene, FOUND.append_column("age", pa.array([1, 2, 3])))
    load(scene, FOUND.append_column("age", pa.array([1.5, 2.5, 3.5])))


PROVOCATIONS: Provocations = {
    "a destination of another kind": lambda _: enrich_query(
        "SELECT 1", "x", destination="oracle://u:canary-secret@h/x", dataset="crm"
    ),
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
}
