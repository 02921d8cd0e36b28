"""The source as dlt's users have it: under dagster-dlt, in a plain pipeline, and under a contract."""

from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from tests.warehouse.enriched_tables import FULL, PEOPLE, TABLES, enriched, everybody, with_own

dlt = pytest.importorskip("dlt")
dagster_dlt = pytest.importorskip("dagster_dlt")
import dagster as dg  # noqa: E402

from eb_dagster.errors import InputError  # noqa: E402
from eb_dagster.warehouse import contacts_source  # noqa: E402
from tests.warehouse.warehouses import IGNORED_WARNINGS, postgres  # noqa: E402

pytestmark = IGNORED_WARNINGS


@pytest.fixture
def duck(tmp_path, monkeypatch):
    monkeypatch.setenv("LOAD__TRUNCATE_STAGING_DATASET", "true")
    return tmp_path / "warehouse.duckdb"


def pipeline(duck: Path, tmp_path: Path, **settings: Any) -> Any:
    destination = settings.pop("destination", None) or dlt.destinations.duckdb(str(duck))
    return dlt.pipeline(
        "exactbuyer", destination=destination, dataset_name="crm", pipelines_dir=str(tmp_path), **settings
    )


def counts(duck: Path) -> list[int]:
    with duckdb.connect(str(duck), read_only=True) as database:
        return [database.execute(f"SELECT count(*) FROM crm.{name}").fetchall()[0][0] for name in TABLES]


class FromEnriched(dagster_dlt.DagsterDltTranslator):
    """Keys that are the tables' names, and the asset that writes the enriched table upstream."""

    def get_asset_spec(self, data: Any) -> dg.AssetSpec:
        spec = super().get_asset_spec(data)
        return spec.replace_attributes(key=data.resource.name, deps=["enriched_contacts"])


@pytest.mark.parametrize("is_there", [True, False])
def test_dlt_assets_shows_six_tables_and_loads_them_twice_in_one_process(publish, duck, tmp_path, is_there):
    path = tmp_path / "enriched.parquet"
    if is_there:
        publish(everybody())

    @dagster_dlt.dlt_assets(
        dlt_source=contacts_source(path, key="Lead Id"),
        dlt_pipeline=pipeline(duck, tmp_path),
        dagster_dlt_translator=FromEnriched(),
    )
    def contacts(context: dg.AssetExecutionContext, loader: dagster_dlt.DagsterDltResource):  # pyright: ignore[reportInvalidTypeForm]
        yield from loader.run(context=context)

    specs = {spec.key.to_user_string(): spec for spec in contacts.specs}
    assert set(specs) == set(TABLES)
    assert all(
        {dep.asset_key for dep in spec.deps} == {dg.AssetKey("enriched_contacts")} for spec in specs.values()
    )
    assert "One row for each of a contact's emails" in (specs["contact_emails"].description or "")
    publish(everybody())
    resources = {"loader": dagster_dlt.DagsterDltResource()}
    for _ in range(2):
        result = dg.materialize([contacts], resources=resources)
        assert result.success
        assert len(result.asset_materializations_for_node("contacts")) == len(TABLES)
        assert counts(duck) == FULL
    publish(everybody(but=7))
    assert dg.materialize([contacts], resources=resources, selection=["contact_emails"]).success
    assert counts(duck) == [PEOPLE, 22, *FULL[2:]]


def test_each_resource_has_its_hints_before_anything_runs(publish):
    source = contacts_source(publish(everybody()), key="Lead Id", history=True)
    assert list(source.resources) == ["enriched_contacts", *TABLES, "contact_job_history"] or set(
        source.selected_resources
    ) == {*TABLES, "contact_job_history"}
    contacts = source.resources["contacts"].compute_table_schema()
    columns = contacts["columns"]
    assert columns["contact_id"]["primary_key"]
    assert columns["Lead Id"]["data_type"] == "bigint"
    assert columns["eb_job_title"]["description"] == "Current job title."
    emails = source.resources["contact_emails"].compute_table_schema()
    assert {name for name, column in emails["columns"].items() if column.get("primary_key")} == {
        "contact_id",
        "position",
    }
    assert emails["references"][0]["referenced_table"] == "contacts"


def test_a_plain_pipeline_loads_twice_and_a_contract_keeps_the_columns(publish, duck, tmp_path):
    path = publish(everybody())
    loading = pipeline(duck, tmp_path)
    for _ in range(2):
        loading.run(contacts_source(path))
        assert counts(duck) == FULL
    source = contacts_source(with_own(path, "new", pa.array(range(PEOPLE + 1))))
    source.schema_contract = {"columns": "freeze"}
    with pytest.raises(Exception, match=r"(?s)freeze|frozen"):
        loading.run(source)
    assert counts(duck) == FULL


def test_a_type_that_is_refused_is_refused_before_a_stream_buys(duck, tmp_path, postgresql):
    table = enriched(everybody())
    read = []

    def batches():
        read.append(True)
        yield from table.append_column("photo", pa.array([b"x"] * (PEOPLE + 1))).to_batches()

    schema = table.schema.append(pa.field("photo", pa.binary()))
    stream = pa.RecordBatchReader.from_batches(schema, batches())
    loading = pipeline(duck, tmp_path, destination=postgres(postgresql.new_database()))
    with pytest.raises(Exception, match="extract") as caught:
        loading.run(contacts_source(stream))
    cause: BaseException | None = caught.value
    while cause is not None and not isinstance(cause, InputError):
        cause = cause.__cause__ or cause.__context__
    assert "cast them to text" in str(cause)
    assert not read
