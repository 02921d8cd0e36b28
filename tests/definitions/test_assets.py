import os
import re
import signal
import threading
from datetime import timedelta
from typing import Any

import dagster as dg
import duckdb
import pandas as pd
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eb_dagster import ConfigError, ExactBuyerResource, LaunchConfig, build_enriched_contacts_asset, sandbox

KEY = "canary-key-1234"
ENRICHED = dg.AssetKey("enriched")


@pytest.fixture
def run(stand_in, tmp_path, instance):
    """Materialize an asset that enriches what `upstream` is, against a sandbox."""

    def start(
        upstream: Any,
        *,
        faults=(),
        api=None,
        config=None,
        selection=None,
        io=dg.mem_io_manager,
        pace=60_000,
        timeout=300.0,
        run=(),
        others=(),
        **keywords,
    ):
        api = api or stand_in(faults=list(faults))
        leads = upstream
        if not isinstance(upstream, dg.AssetsDefinition):

            @dg.asset
            def leads():
                return upstream

        keywords = {"name": "enriched", "path": tmp_path / "out.parquet", **keywords}
        asset = build_enriched_contacts_asset(source=leads.key, **keywords)
        resource = ExactBuyerResource(
            api_key=KEY,
            base_url=api.url,
            ledger=str(tmp_path / "ledger.db"),
            requests_per_minute=pace,
            timeout=timeout,
        )
        ops = {"ops": {"enriched": {"config": config}}} if config else {}
        return dg.materialize(
            [leads, asset, *others],
            resources={"exactbuyer": resource, "io_manager": io},
            raise_on_error=False, instance=instance, run_config=ops, selection=selection, **dict(run),
        )  # fmt: skip

    return start


def people(count: int = 30, start: int = 0) -> pd.DataFrame:
    return pd.DataFrame({"email": [f"p{number}@firm.example" for number in range(start, start + count)]})


def made_by(result) -> dict[str, Any]:
    (made,) = result.asset_materializations_for_node("enriched")
    return {name: value.value for name, value in made.metadata.items()}


def observed(instance) -> list[dict[str, Any]]:
    records = instance.fetch_observations(ENRICHED, limit=10).records
    return [
        {name: value.value for name, value in record.event_log_entry.asset_observation.metadata.items()}
        for record in records
    ]


def partitioned_leads(keys: list[str]) -> dg.AssetsDefinition:
    @dg.asset(partitions_def=dg.StaticPartitionsDefinition(keys))
    def leads(context: dg.AssetExecutionContext):
        of = {key: people(10, start=10 * index) for index, key in enumerate(keys)}
        return of[context.partition_key] if context.has_partition_key else of

    return leads


# What comes in


def test_a_dataframe_becomes_a_parquet_table_with_metadata(run, tmp_path):
    frame = people().assign(score=range(30), label=pd.Categorical(["a", "b", None] * 10))
    metadata = made_by(run(frame))
    table = pq.read_table(tmp_path / "out.parquet")
    assert metadata["dagster/row_count"] == table.num_rows == 30
    assert metadata["dagster/uri"] == (tmp_path / "out.parquet").as_uri()
    assert "dagster/table_name" not in metadata
    assert metadata["dagster/storage_kind"] == "parquet"
    assert table.column("score").to_pylist() == list(range(30))
    assert table.column("label").to_pylist()[:3] == ["a", "b", None]


@pytest.mark.parametrize("path", [True, False])
def test_a_value_at_the_end_that_is_no_text_is_found_before_anything_is_sent(run, stand_in, path):
    api = stand_in(match_rate=1.0)
    phones = pd.Series([None] * 40_000 + [4915112345678], dtype=object)
    leads = pd.DataFrame({"email": [f"p{n}@firm.example" for n in range(40_001)], "phone": phones})
    assert not run(leads, api=api, **({} if path else {"path": None})).success
    assert api.requests() == 0


def test_its_columns_tell_what_they_are_and_where_they_come_from(run, tmp_path):
    metadata = made_by(run(people().assign(score=1.5)))
    written = pq.read_schema(tmp_path / "out.parquet")
    columns = metadata["dagster/column_schema"].columns
    assert [column.name for column in columns] == written.names
    assert {column.name: column.type for column in columns}["score"] == "double"
    assert all(column.description for column in columns if column.name.startswith("eb_"))
    lineage = metadata["dagster/column_lineage"].deps_by_column
    assert set(lineage) == set(written.names)
    assert [dependency.column_name for dependency in lineage["score"]] == ["score"]
    assert [dependency.column_name for dependency in lineage["eb_job_title"]] == ["email"]


def test_its_columns_may_be_chosen_by_the_names_that_they_get(run, tmp_path):
    made_by(run(people(), prefix="x_", columns=["x_city", "full_name"]))
    assert pq.read_schema(tmp_path / "out.parquet").names[-2:] == ["x_full_name", "x_city"]


def test_its_figures_are_numbers_that_plot(run):
    metadata = made_by(run(people()))
    figures = {name for name, value in metadata.items() if isinstance(value, int | float)}
    wanted = (
        "credits_charged match_rate requests in_doubt matched not_found invalid drift seconds matched_email"
    )
    assert {f"exactbuyer/{name}" for name in wanted.split()} <= figures
    assert metadata["exactbuyer/credits_charged"] > 0


def test_it_shows_who_answered_and_how_full_each_column_is(run, tmp_path):
    metadata = made_by(run(people()))
    matched = metadata["exactbuyer/matched"]
    table = pq.read_table(tmp_path / "out.parquet").to_pandas()
    assert re.search(rf"\| email \| 30 \| {matched} \| `█+░*` \d+% \|", metadata["exactbuyer/found_by"])
    rates = metadata["exactbuyer/fill_rates"]
    for name in ("eb_full_name", "eb_city"):
        assert f"| {name} | {table[name].notna().sum()} |" in rates
    filled = sum(len(emails) > 0 for emails in table["eb_emails"] if emails is not None)
    assert f"| eb_emails | {filled} |" in rates


def test_an_index_with_a_name_is_kept(run, tmp_path):
    run(people(3).rename_axis("lead"))
    assert "lead" in pq.read_schema(tmp_path / "out.parquet").names
    run(people(3).iloc[[2, 0]])
    assert not [name for name in pq.read_schema(tmp_path / "out.parquet").names if "index" in name]


def test_a_path_is_streamed(run, tmp_path):
    people().to_parquet(tmp_path / "in.parquet", index=False)
    assert made_by(run(str(tmp_path / "in.parquet")))["dagster/row_count"] == 30


def test_an_arrow_table_will_do(run):
    assert made_by(run(pa.Table.from_pandas(people())))["dagster/row_count"] == 30


def test_a_polars_frame_will_do_and_is_handed_on_as_one(run, tmp_path):
    assert made_by(run(polars.from_pandas(people()).lazy()))["dagster/row_count"] == 30
    assert pq.read_metadata(tmp_path / "out.parquet").num_rows == 30
    result = run(polars.from_pandas(people()), path=None)
    assert isinstance(result.asset_value("enriched"), polars.DataFrame)


@pytest.mark.parametrize(
    ("upstream", "words"),
    [
        (42, "gives int"),
        (pd.DataFrame({"mail": ["x"]}), "no identifier columns"),
        (people(2).assign(mixed=[1, "jane@canary.example"]), "mixed"),
        (pd.concat([people(2), people(2)], axis="columns"), "same name"),
        ("nowhere.parquet", "there is no file"),
    ],
)
def test_what_cannot_be_enriched_fails_before_anything_is_sent(run, stand_in, instance, upstream, words):
    api = stand_in()
    result = run(upstream, api=api)
    assert api.requests() == 0
    assert words in repr(result.failure_data_for_node("enriched"))
    assert "canary.example" not in repr(instance.all_logs(result.run_id))


# Where it goes


def test_both_ways_give_the_same_table(run, tmp_path):
    frame = people().assign(score=range(30))
    run(frame)
    handed = run(frame, path=None).asset_value("enriched")
    written = pd.read_parquet(tmp_path / "out.parquet")
    for name in ("email", "score", "eb_matched", "eb_full_name", "eb_query"):
        both = [table[name].astype(object).where(table[name].notna(), None) for table in (handed, written)]
        assert both[0].tolist() == both[1].tolist()


def test_a_relation_of_duckdb_will_do(run):
    leads = people()
    with duckdb.connect() as database:
        assert made_by(run(database.sql("FROM leads")))["dagster/row_count"] == len(leads)


@pytest.mark.parametrize("kind", [str, pa.Table.from_pandas])
def test_other_tables_are_handed_on_too(run, tmp_path, kind):
    people().to_parquet(tmp_path / "in.parquet", index=False)
    upstream = str(tmp_path / "in.parquet") if kind is str else kind(people())
    value = run(upstream, path=None).asset_value("enriched")
    assert isinstance(value, pd.DataFrame if kind is str else pa.Table)
    assert len(value) == 30


# Dagster's own things

KEYS = ["a/b", "../../x", "x" * 300, ".."]


def test_each_partition_has_a_file_of_its_own_inside_the_folder(run, tmp_path):
    leads = partitioned_leads(KEYS)
    for key in KEYS:
        result = run(
            leads, path=tmp_path / "folder" / "out", partitions_def=leads.partitions_def,
            run={"partition_key": key},
        )  # fmt: skip
        metadata = made_by(result)
        assert metadata["dagster/partition_row_count"] == 10
    files = [file for file in tmp_path.rglob("*.parquet") if file.is_file()]
    assert len(files) == len(KEYS)
    assert {file.parent for file in files} == {tmp_path / "folder" / "out"}


def test_a_backfill_in_one_run_writes_every_partition_within_one_budget(run, tmp_path):
    leads = partitioned_leads(["a", "b", "c"])
    span = {"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "c"}
    keywords = {
        "path": tmp_path / "out", "partitions_def": leads.partitions_def, "max_credits": 12,
        "backfill_policy": dg.BackfillPolicy.single_run(), "io": dg.FilesystemIOManager(base_dir=str(tmp_path)),
    }  # fmt: skip
    for key in "abc":
        run(leads, selection=["leads"], run={"partition_key": key}, **keywords)
    result = run(leads, selection=["enriched"], run={"tags": span}, **keywords)
    assert result.success
    made = result.asset_materializations_for_node("enriched")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "a.parquet",
        "b.parquet",
        "c.parquet",
    ]
    assert sorted(event.partition for event in made) == ["a", "b", "c"]
    assert [event.metadata["dagster/partition_row_count"].value for event in made] == [10, 10, 10]
    spent = sum(
        pq.read_table(file).column("eb_matched").to_pylist().count(True)
        for file in (tmp_path / "out").iterdir()
    )
    assert spent == 12


@pytest.fixture
def backfill(run, tmp_path):
    """Make the partitions a and b, of ten people each, in one run."""
    leads = partitioned_leads(["a", "b"])
    span = {"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "b"}
    keywords = {
        "path": tmp_path / "out", "partitions_def": leads.partitions_def,
        "backfill_policy": dg.BackfillPolicy.single_run(), "io": dg.FilesystemIOManager(base_dir=str(tmp_path)),
    }  # fmt: skip

    def start(api, **more):
        for key in "ab":
            run(leads, api=api, selection=["leads"], run={"partition_key": key}, **keywords)
        return run(leads, api=api, selection=["enriched"], run={"tags": span}, **keywords, **more)

    return start


def test_what_is_in_doubt_in_one_partition_counts_as_spent_in_the_next(backfill, stand_in, tmp_path):
    api = stand_in(match_rate=1.0, faults=[sandbox.Fault("502", 1)])
    assert backfill(api, max_credits=10).success
    statuses = {
        key: set(pq.read_table(tmp_path / "out" / f"{key}.parquet")["eb_status"].to_pylist()) for key in "ab"
    }
    assert statuses == {"a": {"in_doubt"}, "b": {"not_asked"}}
    assert api.credits() == 10


def test_a_partition_that_fails_does_not_hide_what_those_before_it_have_spent(backfill, stand_in, instance):
    api = stand_in(match_rate=1.0, faults=[sandbox.Fault("403", 2)])
    assert not backfill(api).success
    records = instance.fetch_observations(ENRICHED, limit=10).records
    made = [record.event_log_entry.asset_observation for record in records]
    told = {event.partition: event.metadata["exactbuyer/credits_charged"].value for event in made}
    assert told == {"a": 10, "b": 0}
    assert api.credits() == 10


def test_a_partition_of_a_backfill_shows_no_figure_of_the_others(run, tmp_path):
    @dg.asset(partitions_def=dg.StaticPartitionsDefinition(["a", "b"]))
    def leads(context: dg.AssetExecutionContext):
        return people(10) if context.partition_key == "a" else pd.DataFrame({"email": ["no address"] * 3})

    span = {"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "b"}
    keywords = {
        "path": tmp_path / "out", "partitions_def": leads.partitions_def,
        "backfill_policy": dg.BackfillPolicy.single_run(), "io": dg.FilesystemIOManager(base_dir=str(tmp_path)),
    }  # fmt: skip
    for key in "ab":
        run(leads, selection=["leads"], run={"partition_key": key}, **keywords)
    result = run(leads, selection=["enriched"], run={"tags": span}, **keywords)
    made = {event.partition: event.metadata for event in result.asset_materializations_for_node("enriched")}
    assert made["a"]["exactbuyer/match_rate"].value > 0
    assert not {"exactbuyer/match_rate", "exactbuyer/matched_email"} & set(made["b"])
    assert made["b"]["exactbuyer/invalid"].value == 3


def test_an_asset_without_partitions_keeps_its_table_in_a_run_of_others_that_have_some(run, tmp_path):
    @dg.asset(partitions_def=dg.StaticPartitionsDefinition(["a", "b"]))
    def other():
        pass

    metadata = made_by(run(people(), others=[other], run={"partition_key": "a"}))
    assert (tmp_path / "out.parquet").is_file()
    assert metadata["dagster/row_count"] == 30
    assert "dagster/partition_row_count" not in metadata


def test_a_run_of_no_partition_writes_no_file_where_the_folder_of_partitions_belongs(run, stand_in, tmp_path):
    api = stand_in()
    result = run(people(), api=api, partitions_def=dg.StaticPartitionsDefinition(["a", "b"]))
    assert "launch it for one" in str(result.failure_data_for_node("enriched").error)
    assert (api.requests(), (tmp_path / "out.parquet").exists()) == (0, False)


def test_what_dagster_takes_is_passed_through():
    condition, freshness = (
        dg.AutomationCondition.eager(),
        dg.FreshnessPolicy.time_window(fail_window=timedelta(days=2)),
    )
    asset = build_enriched_contacts_asset(
        name="enriched", key_prefix=["crm", "eu"], source="leads", path="x.parquet", deps=["other"],
        description="All of them.", group_name="sales", owners=["team:data"], tags={"tier": "gold"},
        kinds={"gold"}, metadata={"cost": "high"}, code_version="7", automation_condition=condition,
        freshness_policy=freshness, pool="exactbuyer", op_tags={"cpu": "2"},
        retry_policy=dg.RetryPolicy(max_retries=2),
    )  # fmt: skip
    (spec,) = asset.specs
    assert spec.key == dg.AssetKey(["crm", "eu", "enriched"])
    assert {dependency.asset_key.to_user_string() for dependency in spec.deps} == {"leads", "other"}
    assert (spec.description, spec.group_name, spec.code_version) == ("All of them.", "sales", "7")
    assert (spec.owners, spec.tags["tier"], spec.kinds) == (["team:data"], "gold", {"gold"})
    assert spec.metadata["cost"] == "high"
    assert spec.automation_condition == condition
    assert spec.freshness_policy == freshness
    assert asset.op.pool == "exactbuyer"
    assert asset.op.tags["cpu"] == "2"
    assert asset.op.retry_policy.max_retries == 2


def test_what_keeps_the_table_of_an_io_manager_is_for_its_owner_to_say():
    given = {"dagster/storage_kind": "snowflake"}
    for metadata in ({}, given):
        asset = build_enriched_contacts_asset(name="enriched", source="leads", path=None, metadata=metadata)
        (spec,) = asset.specs
        assert {name: value for name, value in spec.metadata.items() if name in given} == metadata


def test_its_defaults_spend_nothing_by_themselves():
    (spec,) = build_enriched_contacts_asset(name="enriched", source="leads", path="x.parquet").specs
    assert spec.automation_condition is None
    assert spec.kinds == {"exactbuyer", "parquet"}
    assert spec.metadata["dagster/storage_kind"] == "parquet"
    assert spec.code_version
    columns = spec.metadata["dagster/column_schema"].columns
    assert {column.name for column in columns} >= {"eb_matched", "eb_other"}


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"max_credit": 5}, "max_credit"),
        ({"required_fields": ["mail"]}, "required_fields"),
        ({"identifiers": {"mail": "Mail"}}, "mail"),
        ({"partition_size": 1001}, "partition_size"),
        ({"max_age": 90}, "max_age"),
        ({"min_match_rate": 2}, "match_rate"),
        ({"min_match_rate": 0.5, "max_match_rate": 0.4}, "match_rate"),
        ({"checks": {"match_rat": None}}, "match_rat"),
        ({"io_manager_key": "warehouse"}, "I/O manager"),
        ({"name": None}, "name"),
        ({"spec": dg.AssetSpec("enriched")}, "not both"),
    ],
)
def test_a_wrong_keyword_is_found_when_the_definitions_load(keywords, words):
    wrong: dict[str, Any] = {"name": "enriched", "source": "leads", "path": "x.parquet", **keywords}
    with pytest.raises(ConfigError, match=re.escape(words)):
        build_enriched_contacts_asset(**wrong)


# What a launch may choose


def test_a_dry_run_shows_the_plan_and_neither_sends_nor_writes(run, stand_in, instance, tmp_path):
    api = stand_in()
    result = run(people(), api=api, config={"dry_run": True})
    assert result.success
    assert api.requests() == 0
    assert not (tmp_path / "out.parquet").exists()
    assert not result.asset_materializations_for_node("enriched")
    (plan,) = observed(instance)
    assert plan["exactbuyer/plan_credits_at_most"] == 30
    assert "| credits at most | 30 |" in plan["exactbuyer/plan"]


def test_a_dry_run_leaves_the_old_table_as_it_is(run, tmp_path):
    run(people())
    before = (tmp_path / "out.parquet").read_bytes()
    run(people(60), config={"dry_run": True})
    assert (tmp_path / "out.parquet").read_bytes() == before


def test_a_launch_may_set_the_budget(run):
    metadata = made_by(run(people(), config={"max_credits": 4}))
    assert metadata["exactbuyer/credits_charged"] == 4
    assert metadata["exactbuyer/not_asked"] > 0
    assert "max_credits" in metadata["exactbuyer/stopped"]


def test_a_launch_may_buy_again_what_is_old(run, stand_in):
    api = stand_in()
    first = made_by(run(people(), api=api))["exactbuyer/credits_charged"]
    assert made_by(run(people(), api=api, config={"max_age_days": 1}))["exactbuyer/credits_charged"] == 0
    again = made_by(run(people(), api=api, config={"max_age_days": 1e-8}))["exactbuyer/credits_charged"]
    assert first == again > 0


@pytest.mark.parametrize("name", ["api_key", "base_url", "ledger", "path", "refresh"])
def test_a_launch_may_set_nothing_else(run, name):
    with pytest.raises(dg.DagsterInvalidConfigError, match=name):
        run(people(), config={name: "https://elsewhere.example"})


@pytest.mark.parametrize(
    ("config", "instead"),
    [
        ({"max_age_days": 0}, "max_age_days is 0; choose a number of days above 0, such as 90"),
        ({"max_age_days": -1.5}, "max_age_days is -1.5; choose a number of days above 0, such as 90"),
        ({"max_age_days": 1e300}, "max_age_days is 1e.300; choose a number of days above 0, such as 90"),
        ({"max_credits": -1}, "max_credits is -1; choose a number of at least 0"),
    ],
)
def test_a_launch_that_is_wrong_says_once_what_to_choose_and_sends_nothing(
    run, stand_in, instance, config, instead
):
    api = stand_in()
    result = run(people(), api=api, config=config, retry_policy=dg.RetryPolicy(max_retries=1))
    assert failed_at_once(result, instance).startswith(
        "dagster._core.definitions.events.Failure: ConfigError: "
    )
    assert re.search(instead, failed_at_once(result, instance))
    assert api.requests() == 0
    with pytest.raises(ConfigError, match=instead):
        LaunchConfig(**config)


def failed_at_once(result, instance) -> str:
    """What a step that was not tried again says, when nothing of ours is in its stack."""
    events = instance.all_logs(result.run_id)
    kinds = [event.dagster_event_type for event in events]
    assert dg.DagsterEventType.STEP_FAILURE in kinds
    assert dg.DagsterEventType.STEP_UP_FOR_RETRY not in kinds
    assert KEY not in repr(events)
    assert "p1@firm.example" not in repr(events)
    error = result.failure_data_for_node("enriched").error
    assert error.cause is None
    assert error.context is None
    return error.message


def a_folder(where):
    where.mkdir()


def no_ledger(where):
    where.write_bytes(b"this is a letter, and not a database " * 100)


@pytest.mark.parametrize("spoil", [a_folder, no_ledger])
def test_a_ledger_that_does_not_open_is_told_once_and_in_words(run, stand_in, instance, tmp_path, spoil):
    api = stand_in()
    spoil(tmp_path / "ledger.db")
    result = run(people(), api=api, retry_policy=dg.RetryPolicy(max_retries=1))
    assert "Failure: LedgerError: " in failed_at_once(result, instance)
    assert api.requests() == 0


# What a run that ends early has spent


@pytest.mark.parametrize("kind", ["401", "403"])
def test_a_refusal_is_not_retried_and_says_nothing_of_people(run, instance, kind):
    result = run(people(), faults=[sandbox.Fault(kind, 1, 9)], retry_policy=dg.RetryPolicy(max_retries=3))
    events = instance.all_logs(result.run_id)
    assert not result.success
    kinds = [event.dagster_event_type for event in events]
    assert dg.DagsterEventType.STEP_FAILURE in kinds
    assert dg.DagsterEventType.STEP_RESTARTED not in kinds
    assert "p1@firm.example" not in repr(events)
    assert KEY not in repr(events)


def test_an_api_that_is_busy_for_longer_than_a_run_waits_is_asked_again_by_dagster_and_nothing_twice(
    run, stand_in, instance
):
    # One refusal a second: more than the twenty seconds of a run's patience, and less than those of two.
    api = stand_in(match_rate=1.0, faults=[sandbox.Fault("429", 2, 26)], retry_after="1")
    again = dg.RetryPolicy(max_retries=2)
    result = run(people(20), api=api, partition_size=10, timeout=20.0, retry_policy=again)
    assert result.success
    events = instance.all_logs(result.run_id)
    kinds = [event.dagster_event_type for event in events]
    assert dg.DagsterEventType.STEP_UP_FOR_RETRY in kinds
    assert [event for event in events if re.search(r"sent again: \d+ × 429, too many", event.user_message)]
    assert dg.DagsterEventType.STEP_RESTARTED in kinds
    spent, *_ = reversed(observed(instance))
    assert (spent["exactbuyer/credits_charged"], spent["exactbuyer/remaining_identifiers"]) == (10, 10)
    assert made_by(result)["exactbuyer/credits_charged"] == 10
    assert (api.credits(), api.charged_twice(), api.requests()) == (20, 0, 27)


def test_a_failed_run_shows_what_it_spent_and_what_is_left_and_the_next_pays_for_that_only(
    run, stand_in, instance
):
    api = stand_in(faults=[sandbox.Fault("403", 3, 3)])
    keywords = {"api": api, "partition_size": 10}
    result = run(people(50), **keywords)
    assert not result.success
    (spent,) = observed(instance)
    assert spent["exactbuyer/credits_charged"] == api.credits() > 0
    assert spent["exactbuyer/input_rows"] == 50
    # No row has left, and zeros would be plotted among the figures of whole runs.
    assert not {"exactbuyer/rows", "exactbuyer/matched", "exactbuyer/match_rate"} & set(spent)
    left = spent["exactbuyer/remaining_identifiers"]
    assert 0 < left < 50
    assert left == spent["exactbuyer/credits_to_finish_at_most"]
    before = api.credits()
    metadata = made_by(run(people(50), **keywords))
    assert metadata["exactbuyer/credits_charged"] == api.credits() - before <= left
    assert api.charged_twice() == 0


def test_an_unforeseen_error_tells_where_but_not_what(run, instance):
    class Odd:
        def __arrow_c_stream__(self, requested_schema=None):
            raise RuntimeError("jane@canary.example")

    result = run(Odd())
    assert re.search(r"RuntimeError at .*upstream.py:\d", str(result.failure_data_for_node("enriched").error))
    assert "canary.example" not in repr(instance.all_logs(result.run_id))
    assert observed(instance)


def test_a_cancelled_run_shows_what_it_spent_and_what_is_left(run, stand_in, instance):
    api = stand_in()
    cancel = threading.Timer(2.5, os.kill, [os.getpid(), signal.SIGINT])
    cancel.start()
    # A partition a second.
    result = run(people(300), api=api, partition_size=10, pace=60)
    cancel.join()
    assert not result.success
    left, spent = observed(instance)
    assert 0 < spent["exactbuyer/credits_charged"] == api.credits()
    assert 250 <= left["exactbuyer/credits_to_finish_at_most"] < 300
    assert "p1@firm.example" not in repr(spent) + repr(left)


def test_the_event_log_tells_progress_now_and_then(run, instance):
    result = run(people(50), partition_size=10, pace=60)
    messages = [event.user_message for event in instance.all_logs(result.run_id)]
    lines = [message for message in messages if " answered, " in message]
    assert 1 <= len(lines) <= 3
    assert re.fullmatch(r"(1 request|\d requests) answered, \d+ of 50 rows, [1-9]\d* credits.*", lines[0])
