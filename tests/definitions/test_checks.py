import dagster as dg
import pandas as pd
import pytest
from pydantic import ValidationError

from eb_dagster import EnrichmentChecks, ExactBuyerResource, build_enriched_contacts_asset, sandbox

ENRICHED = dg.AssetKey("enriched")
GOOD = {
    "match_rate": 0.7, "rows": 10, "input_rows": 10, "in_doubt": 0, "credits_in_doubt": 0, "unreadable": 0,
    "drift": 0, "wrong_counts": 0, "new_fields": 0, "credits_charged": 7, "plan_credits_at_most": 10,
}  # fmt: skip
EVERY = EnrichmentChecks.model_validate({"credits_within_plan": {}})


def results(facts, history=(), checks=EVERY):
    selected = frozenset(checks.chosen())
    return {
        result.check_name: result for result in checks.results(facts, history, asset=ENRICHED, selected=selected)
    }  # fmt: skip


def failed(facts, history=(), checks=EVERY):
    return {name for name, result in results(facts, history, checks).items() if not result.passed}


def test_a_good_run_passes_all_of_them():
    assert failed(GOOD, history=[0.7, 0.6, 0.8]) == set()


@pytest.mark.parametrize(
    ("worse", "name"),
    [
        ({"in_doubt": 3}, "nothing_in_doubt"),
        ({"credits_in_doubt": 3}, "nothing_in_doubt"),
        ({"unreadable": 1}, "nothing_in_doubt"),
        ({"drift": 1}, "schema_drift"),
        ({"wrong_counts": 1}, "schema_drift"),
        ({"rows": 9}, "one_row_each"),
        ({"credits_charged": 11}, "credits_within_plan"),
        ({"credits_in_doubt": 4}, "credits_within_plan"),
    ],
)
def test_each_fails_by_what_it_looks_at(worse, name):
    assert name in failed({**GOOD, **worse})


def test_the_match_rate_stays_within_bounds():
    bounded = EnrichmentChecks.model_validate({"match_rate": {"min": 0.3, "max": 0.9}})
    rates = {
        rate: "match_rate" in failed({**GOOD, "match_rate": rate}, checks=bounded)
        for rate in (0.29, 0.3, 0.9, 0.91)
    }
    assert rates == {0.29: True, 0.3: False, 0.9: False, 0.91: True}


def test_no_known_answer_is_no_match_rate():
    unknown = {name: value for name, value in GOOD.items() if name != "match_rate"}
    assert failed(unknown, history=[0.7] * 5) == set()


def test_the_match_rate_stays_near_its_own_past():
    strict = EnrichmentChecks.model_validate({"match_rate_history": {"tolerance": 0.1, "runs": 3}})
    assert failed(GOOD, history=[0.9, 0.9], checks=strict) == set(), "too little to compare with"
    assert failed(GOOD, history=[0.9, 0.9, 0.9], checks=strict) == {"match_rate_history"}
    assert failed(GOOD, history=[0.7, 0.75, 0.1, 0.9, 0.9, 0.9], checks=strict) == set(), (
        "only the newest count"
    )


def test_new_fields_alone_are_no_drift():
    found = results({**GOOD, "new_fields": 12})["schema_drift"]
    assert found.passed
    assert found.metadata["new_fields"].value == 12


def test_severity_and_blocking_are_the_users():
    checks = EnrichmentChecks.model_validate(
        {"nothing_in_doubt": {"severity": "ERROR", "blocking": True}, "schema_drift": None}
    )
    found = results({**GOOD, "in_doubt": 1}, checks=checks)
    assert found["nothing_in_doubt"].severity == dg.AssetCheckSeverity.ERROR
    assert found["match_rate_history"].severity == dg.AssetCheckSeverity.WARN
    specs = {spec.name: spec for spec in checks.specs(ENRICHED)}
    assert specs["nothing_in_doubt"].blocking
    assert not specs["match_rate"].blocking
    assert "schema_drift" not in specs
    assert all(spec.description for spec in specs.values())


@pytest.mark.parametrize(
    "wrong", [{"match_rat": {}}, {"match_rate": {"mini": 0.3}}, {"match_rate": {"min": 30}}]
)
def test_a_misspelt_check_is_named(wrong):
    with pytest.raises(ValidationError, match="match_rat"):
        EnrichmentChecks.model_validate(wrong)


# In runs


@pytest.fixture
def run(stand_in, tmp_path):
    ran = []

    @dg.asset
    def leads():
        return pd.DataFrame({"email": [f"p{number}@firm.example" for number in range(30)]})

    @dg.asset(deps=["enriched"])
    def downstream():
        ran.append("downstream")

    with dg.DagsterInstance.ephemeral() as instance:

        def start(api=None, *, selection=None, faults=(), **keywords):
            api = api or stand_in(faults=list(faults))
            asset = build_enriched_contacts_asset(
                name="enriched", source="leads", path=tmp_path / "out.parquet", **keywords
            )
            resource = ExactBuyerResource(
                api_key="key", base_url=api.url, ledger=str(tmp_path / "l.db"), requests_per_minute=60_000,
                timeout=2.0,
            )  # fmt: skip
            ran.clear()
            result = dg.materialize(
                [leads, asset, downstream], resources={"exactbuyer": resource}, instance=instance,
                raise_on_error=False, selection=selection,
            )  # fmt: skip
            return result, ran

        yield start


def verdicts(result):
    return {evaluation.check_name: evaluation.passed for evaluation in result.get_asset_check_evaluations()}


def test_a_run_reports_them_all(run):
    result, ran = run()
    assert verdicts(result) == dict.fromkeys(EnrichmentChecks().chosen(), True)
    assert ran == ["downstream"]


def test_a_reply_that_never_came_is_warned_about(run):
    result, _ = run(faults=[sandbox.Fault("no-reply", 1)])
    assert result.success
    assert verdicts(result)["nothing_in_doubt"] is False


def test_a_blocking_error_holds_up_what_is_downstream(run):
    result, ran = run(checks={"match_rate": {"min": 0.999, "blocking": True}})
    assert verdicts(result)["match_rate"] is False
    assert ran == []


def test_the_plan_bounds_the_credits(run):
    result, _ = run(checks={"credits_within_plan": {"severity": "ERROR"}})
    assert verdicts(result)["credits_within_plan"] is True
    (made,) = result.asset_materializations_for_node("enriched")
    assert made.metadata["exactbuyer/plan_credits_at_most"].value == 30


def test_history_is_that_of_the_asset(run, stand_in):
    for _ in range(3):
        assert verdicts(run()[0])["match_rate_history"] is True
    poor = stand_in(match_rate=0.0)
    assert verdicts(run(poor)[0])["match_rate_history"] is False


def test_the_history_of_a_day_is_that_of_the_other_days_each_once(tmp_path, stand_in):
    days = dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-01-05")

    @dg.asset(partitions_def=days)
    def leads(context: dg.AssetExecutionContext):
        return pd.DataFrame(
            {"email": [f"p{context.partition_key}-{number}@firm.example" for number in range(10)]}
        )

    good, poor = stand_in(match_rate=1.0), stand_in(match_rate=0.0)
    with dg.DagsterInstance.ephemeral() as instance:

        def shown(api, day: str | None, *, selection=None) -> tuple[bool, int]:
            asset = build_enriched_contacts_asset(
                name="enriched", source="leads", path=tmp_path / "out", partitions_def=days
            )
            resource = ExactBuyerResource(
                api_key="key", base_url=api.url, ledger=str(tmp_path / "l.db"), requests_per_minute=60_000
            )
            result = dg.materialize(
                [leads, asset], resources={"exactbuyer": resource}, instance=instance, partition_key=day,
                selection=selection,
            )  # fmt: skip
            found = {evaluation.check_name: evaluation for evaluation in result.get_asset_check_evaluations()}
            evaluation = found["match_rate_history"]
            runs = evaluation.metadata["runs"].value
            assert isinstance(runs, int)
            return evaluation.passed, runs

        assert shown(good, "2026-01-01") == (True, 0)
        assert [shown(good, "2026-01-01") for _ in range(3)] == [(True, 0)] * 3
        assert shown(good, "2026-01-02") == (True, 1)
        assert shown(good, "2026-01-03") == (True, 2)
        assert shown(poor, "2026-01-04") == (False, 3)
        # Alone, it looks at the day that was made last.
        assert shown(good, "2026-01-02") == (True, 3)
        only = dg.AssetSelection.checks(dg.AssetCheckKey(ENRICHED, "match_rate_history"))
        assert shown(good, None, selection=only) == (True, 3)


def test_its_description_tells_what_is_compared():
    (spec,) = [spec for spec in EVERY.specs(ENRICHED) if spec.name == "match_rate_history"]
    assert "a static partition, such as a region, with its own earlier ones" in " ".join(
        str(spec.description).split()
    )


def test_checks_alone_are_run_again_without_buying(run, stand_in):
    api = stand_in()
    run(api)
    before = api.requests()
    only = dg.AssetSelection.checks(dg.AssetCheckKey(ENRICHED, "match_rate"))
    result, ran = run(api, selection=only, min_match_rate=0.999)
    assert verdicts(result) == {"match_rate": False}
    assert (api.requests(), ran) == (before, [])


@pytest.mark.parametrize(("disagree", "passes"), [(0, True), (5, True), (6, False)])
def test_few_contacts_may_have_another_name_than_their_row(disagree, passes):
    named = EnrichmentChecks.model_validate({"names_agree": {"max": 0.05}})
    facts = {**GOOD, "agrees": 100 - disagree, "disagrees": disagree}
    assert ("names_agree" not in failed(facts, checks=named)) is passes
    assert "names_agree" not in failed(GOOD, checks=named)


@pytest.mark.parametrize(
    ("person", "checks", "is_there"),
    [
        ({"name": "name"}, {}, True),
        (None, {}, False),
        ({"name": "name"}, {"names_agree": None}, False),
        (None, {"names_agree": {"max": 0.1}}, True),
    ],
)
def test_names_are_checked_where_there_are_names(person, checks, is_there, tmp_path):
    asset = build_enriched_contacts_asset(
        name="enriched", source="leads", path=tmp_path / "out.parquet", person=person, checks=checks
    )
    assert ("names_agree" in {spec.name for spec in asset.check_specs}) is is_there
