"""Tables in the stores of Google and of Azure: read, published whole or not at all, and forgotten there.

Google's is gcp-storage-emulator. Azure's is Azurite, which is tested where $EB_DAGSTER_AZURITE names its program.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eb_dagster.errors import ConfigError, InputError
from eb_dagster.tables.files import file_source
from eb_dagster.tables.object_store import ObjectPath, place
from eb_dagster.tables.parquet import write_parquet
from tests import object_stores

LEADS = pa.table({"email": [f"lead{number}@canary.example" for number in range(40)]})


@pytest.fixture(
    scope="module", params=["gs://crm", "az://crm", "abfss://crm@devstoreaccount1.dfs.core.windows.net"]
)
def settings(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """The environment in which an address is one of a store of this machine's own."""
    if request.param.startswith("gs"):
        pytest.importorskip("gcp_storage_emulator")
        with object_stores.google() as address:
            yield {"address": request.param, "STORAGE_EMULATOR_HOST": address}
        return
    pytest.importorskip("obstore")
    if object_stores.AZURITE not in os.environ:
        pytest.skip(f"needs Azurite: set {object_stores.AZURITE} to the program azurite-blob")
    with object_stores.azure(tmp_path_factory.mktemp("azurite")) as address:
        yield {"address": request.param, "AZURE_STORAGE_ENDPOINT": address, **object_stores.AZURE_KEYS}


@pytest.fixture
def store(settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in settings.items():
        if name != "address":
            monkeypatch.setenv(name, value)
    return settings["address"]


def read(address: str) -> pa.Table:
    found = place(address)
    assert isinstance(found, ObjectPath)
    with found.open() as file:
        # As a whole: the stand-in for Google answers one request at a time.
        return pq.read_table(pa.BufferReader(file.read()))


def put(table: pa.Table, address: str) -> None:
    write_parquet(table.to_batches(), place(address), schema=table.schema)


def test_a_table_is_enriched_there_again_for_nothing_and_a_person_is_forgotten_there(
    store, stand_in, enricher
):
    api = stand_in()
    put(LEADS, f"{store}/leads.parquet")
    buyer = enricher(api)
    for _ in range(2):
        buyer.enrich_parquet(f"{store}/leads.parquet", f"{store}/made/enriched.parquet")
    made = read(f"{store}/made/enriched.parquet")
    assert made.num_rows == 40
    found = next(row["email"] for row in made.to_pylist() if row["eb_matched"])
    assert buyer.forget("email", found).rows == 1
    assert found not in read(f"{store}/made/enriched.parquet").column("email").to_pylist()
    assert buyer.report.credits_charged == 0


def test_a_large_table_appears_whole_and_one_that_breaks_off_does_not(store):
    target = f"{store}/large.parquet"
    put(pa.table({"noise": [os.urandom(1 << 20) for _ in range(12)]}), target)
    assert read(target).num_rows == 12

    def torn() -> Iterator[Any]:
        yield from LEADS.to_batches()
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_parquet(torn(), place(target), schema=LEADS.schema)
    assert read(target).num_rows == 12


def test_a_source_is_opened_there_by_its_ending(store, tmp_path):
    text = tmp_path / "leads.csv"
    text.write_text("Mail\np0@canary.example\n")
    found = place(f"{store}/leads.csv")
    assert isinstance(found, ObjectPath)
    with text.open("rb") as file:
        found.upload(file)
    put(LEADS, f"{store}/leads.parquet")
    assert file_source(f"{store}/leads.csv").read_all().to_pylist() == [{"Mail": "p0@canary.example"}]
    assert file_source(f"{store}/leads.parquet").read_all().equals(LEADS)
    with pytest.raises(InputError, match="there is no file"):
        file_source(f"{store}/none.parquet")


def test_what_is_there_is_told_from_what_is_not(store):
    put(LEADS, f"{store}/folder/a.parquet")
    assert place(f"{store}/folder/a.parquet").exists()
    assert not place(f"{store}/folder").exists()
    assert not place(f"{store}/none.parquet").exists()
    with pytest.raises(ConfigError, match="it is a folder"):
        place(f"{store}/folder").check_writable()  # pyright: ignore[reportAttributeAccessIssue]
    place(f"{store}/folder/b.parquet").check_writable()  # pyright: ignore[reportAttributeAccessIssue]
    assert not place(f"{store}/folder/.b.parquet.tmp").exists()
    with pytest.raises(ConfigError, match="cannot be written"):
        put(LEADS, f"{store.replace('crm', 'nowhere')}/a.parquet")


def test_addresses_of_azure_name_a_container_and_its_account():
    address = "abfss://crm@account.dfs.core.windows.net/folder/a.parquet"
    assert place(address) == ObjectPath("crm@account.dfs.core.windows.net", "folder/a.parquet", "abfss")
    assert str(place(address)) == address
    assert place("az://crm/a.parquet") == ObjectPath("crm", "a.parquet", "az")
    assert place("file:///tmp/a.parquet") == Path("/tmp/a.parquet")
