"""What dlt is told of the tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from eb_dagster.errors import ConfigError
from tests.warehouse.enriched_tables import FULL, TABLES, enriched, everybody

dlt = pytest.importorskip("dlt")
from eb_dagster.warehouse import contacts_source, load_contacts  # noqa: E402
from tests.warehouse.warehouses import IGNORED_WARNINGS  # noqa: E402

pytestmark = IGNORED_WARNINGS


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
    assert all("Who this is, in each load the same." in statement for statement in created.values())
    for table in TABLES:
        (job,) = client._create_merge_followup_jobs([client.prepare_load_table(table)])
        gone, insertion = Path(job._file_path).read_text("utf-8").split(";")
        assert (
            gone
            == f"DELETE FROM {contacts.replace('contacts', table).replace('CONTACTS', table.upper())} WHERE 1 = 1"
        )
        assert insertion.lstrip().startswith("INSERT INTO")
    assert {"delete-insert", "scd2"} <= set(client.capabilities.supported_merge_strategies)
