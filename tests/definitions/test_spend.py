"""What Dagster shows of money, and what a dry run and a run without a table leave of it."""

import dagster as dg
import pandas as pd
import pytest

from eb_dagster import ExactBuyerResource, build_enriched_contacts_asset
from eb_dagster.definitions.spend import Spend, spend_by_cost_center
from eb_dagster.sandbox import Fault
from example_project.defs import plan_only

KEY = dg.AssetKey("enriched_contacts")


@pytest.fixture
def materialize(tmp_path, instance):
    def start(api, *, config=None, **keywords):
        @dg.asset
        def leads():
            return pd.DataFrame({"email": [f"canary{number}@firm.example" for number in range(20)]})

        asset = build_enriched_contacts_asset(
            name="enriched_contacts",
            source=leads,
            path=tmp_path / "out.parquet",
            cost_center="sales",
            **keywords,
        )
        resource = ExactBuyerResource(
            api_key="canary-key",
            base_url=api.url,
            ledger=str(tmp_path / "ledger.db"),
            requests_per_minute=60_000,
            price=0.5,
        )
        return dg.materialize(
            [leads, asset],
            instance=instance,
            resources={"exactbuyer": resource, "io_manager": dg.mem_io_manager},
            run_config={"ops": {"enriched_contacts": {"config": config}}} if config else None,
            raise_on_error=False,
        )

    return start


def verdicts(result) -> dict[str, bool]:
    return {evaluation.check_name: evaluation.passed for evaluation in result.get_asset_check_evaluations()}


def logged(instance, result) -> str:
    return "\n".join(record.user_message for record in instance.all_logs(result.run_id))


def test_money_is_shown_and_added_up_by_cost_center(materialize, stand_in, instance):
    api = stand_in(match_rate=1.0, faults=[Fault("403", 2, 2)])
    capped = materialize(api, max_credits=8)
    metadata = capped.asset_materializations_for_node("enriched_contacts")[0].metadata
    assert metadata["exactbuyer/cost"].value == 4.0
    assert metadata["exactbuyer/cost_center"].value == "sales"
    assert verdicts(capped)["everything_asked"] is False
    said = logged(instance, capped)
    assert "buys from: the sandbox at " in said
    assert "the ledger is new and empty" in said
    assert "credits left: 8 for this run" in said
    # The second request is refused: no table, and a check that says so.
    refused = materialize(api)
    assert not refused.success
    assert verdicts(refused) == {"everything_asked": False}
    whole = materialize(api)
    assert verdicts(whole)["everything_asked"] is True
    assert spend_by_cost_center(instance, [KEY]) == {("enriched_contacts", "sales"): Spend(20, 10.0)}
    assert "canary" not in said


def test_a_dry_run_leaves_the_checks_as_they_were_and_shows_its_plan(materialize, stand_in, instance):
    api = stand_in(match_rate=1.0)
    before = verdicts(materialize(api, max_credits=8))
    dry = materialize(api, config={"dry_run": True})
    assert dry.success
    assert verdicts(dry) == before
    assert before["everything_asked"] is False
    plan = instance.fetch_observations(KEY, limit=1).records[0].asset_observation.metadata
    assert plan["exactbuyer/plan_cost_at_most"].value == 6.0
    assert "| costs at most | 6.00 (12 at 0.5) |" in plan["exactbuyer/plan"].value
    assert api.credits() == 8


def test_the_job_that_only_plans_is_ready():
    assert plan_only.plan_contacts.name == "plan_contacts"
