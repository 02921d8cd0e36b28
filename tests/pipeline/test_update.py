"""An enriched table is brought up to date: what is new or due is asked, all else is kept and checked again."""

from contextlib import closing
from datetime import timedelta

import pandas as pd
import pyarrow as pa
import pytest

from eb_dagster import ConfigError, InputError, LedgerError, OverBudget
from eb_dagster.ledger import privacy
from eb_dagster.ledger.ledger import Ledger

NAMES = ("ada", "bo", "cy", "di", "ed")


def leads(*names, **changed):
    emails = [changed.get(name, f"{name}@firm.example") for name in names]
    return pd.DataFrame({"id": names, "email": emails, "note": [f"of {name}" for name in names]})


@pytest.fixture
def tables(tmp_path):
    """Writes leads, and gives the paths of the leads and of the result."""

    def write(frame):
        frame.to_parquet(tmp_path / "leads.parquet")
        return tmp_path / "leads.parquet", tmp_path / "contacts.parquet"

    return write


def updated(buyer, paths):
    source, target = paths
    report = buyer.enrich_parquet(source, target, update=target, key="id")
    return report, pd.read_parquet(target).set_index("id")


def test_what_is_new_or_changed_is_bought_and_the_rest_is_kept_in_its_order(stand_in, enricher, tables):
    api = stand_in(match_rate=1.0)
    report, first = updated(enricher(api), tables(leads("ada", "bo", "cy")))
    assert (report.credits_charged, report.kept) == (3, 0)
    today = leads("di", "bo", "cy", bo="bob@firm.example").assign(note="new", more=[1, 2, 3])
    report, second = updated(enricher(api), tables(today))
    assert second.index.tolist() == ["ada", "bo", "cy", "di"]
    assert (report.rows, report.matched, report.credits_charged, report.kept, report.gone) == (4, 4, 2, 2, 1)
    assert api.credits() == 5
    assert second["note"].tolist() == ["of ada", "new", "new", "new"]
    assert second["more"].isna().tolist() == [True, False, False, False]
    kept = [name for name in map(str, first) if name.startswith("eb_") and name != "eb_from_ledger"]
    pd.testing.assert_frame_equal(second[kept].loc[["ada", "cy"]], first[kept].loc[["ada", "cy"]])
    assert second.loc["bo", "eb_query"] == "bob@firm.example"
    assert "rows kept as they were" in str(report)


def test_columns_that_were_added_to_the_result_by_hand_stay(stand_in, enricher, tables, tmp_path):
    api = stand_in(match_rate=1.0)
    buyer = enricher(api)
    updated(buyer, tables(leads("ada", "bo")))
    earlier = pd.read_parquet(tmp_path / "contacts.parquet").assign(owner=["me", "you"])
    table = buyer.update_batches(leads("bo", "cy"), earlier, key="id").read_all().to_pandas()
    assert table["owner"].fillna("").tolist() == ["me", "you", ""]
    assert table["id"].tolist() == ["ada", "bo", "cy"]


def test_a_contact_that_the_ledger_no_longer_holds_is_kept_and_not_bought_again(stand_in, enricher, tables):
    api = stand_in(match_rate=1.0)
    paths = tables(leads("ada", "bo"))
    _, first = updated(enricher(api), paths)
    purge(paths)
    report, second = updated(enricher(api), paths)
    assert (api.credits(), report.credits_charged, report.kept) == (2, 0, 2)
    pd.testing.assert_frame_equal(second, first)
    # A field that is required now, and that the contact lacks, makes it due.
    table = pa.Table.from_pandas(second.reset_index().assign(eb_work_email=None))
    enricher(api, required_fields=["work_email"]).update_batches(leads("ada"), table, key="id").read_all()
    assert api.requests() == 2


def purge(paths):
    with closing(Ledger(paths[0].with_name("ledger.db"), endpoint="")) as ledger:
        assert privacy.purge(ledger, older_than=timedelta(0)) == 1


@pytest.mark.parametrize("is_purged", [False, True])
def test_nobody_is_kept_who_is_suppressed_forgotten_rejected_or_shared_by_now(
    stand_in, enricher, tables, is_purged
):
    api = stand_in(match_rate=1.0)
    frame = leads(*NAMES)
    buyer = enricher(api)
    paths = tables(frame.assign(phone=["", "", "", "", "+49 170 5550145"], email=[*frame["email"][:4], ""]))
    _, first = updated(buyer, paths)
    assert first["eb_matched"].all()
    # By an address that only the contact holds.
    buyer.suppress([("email", str(first.loc["ada", "eb_work_email"]))])
    assert buyer.reject("email", "bo@firm.example") == 1
    held = pd.read_parquet(paths[1])
    buyer.forget("email", "cy@firm.example")
    if is_purged:
        purge(paths)
    # Whoever had the table open while somebody was forgotten does not bring the person back.
    today = pd.concat([
        frame.assign(phone=["", "", "", "", "+49 170 5550145"], email=[*frame["email"][:4], ""]),
        pd.DataFrame({
            "id": ["x", "y"], "phone": ["+49 170 5550145"] * 2,
            "email": ["xu@firm.example", "yo@other.example"], "note": "",
        }),
    ])  # fmt: skip
    asked = api.requests()
    table = buyer.update_batches(today, held, key="id").read_all().to_pandas().set_index("id")
    assert table["eb_status"].tolist() == [
        "suppressed", "not_found", "suppressed", "matched", "invalid", "matched", "matched"
    ]  # fmt: skip
    assert table.loc["bo", "eb_from_ledger"]
    contacts = [name for name in table if name.startswith("eb_")][6:]
    assert table.loc[["ada", "cy", "ed"], contacts].isna().all(axis=None)
    assert table.loc["di", "eb_full_name"] == first.loc["di", "eb_full_name"]
    assert api.requests() == asked + 1


def test_what_is_due_is_refreshed_and_stays_as_it_was_where_the_cap_leaves_no_room(
    stand_in, enricher, tables
):
    api = stand_in(match_rate=1.0)
    paths = tables(leads("ada", "bo", "cy"))
    _, first = updated(enricher(api), paths)
    purge(paths)
    soon = {"max_age": timedelta(microseconds=1)}
    report, second = updated(enricher(api, max_credits=1, **soon), paths)
    assert (report.credits_charged, report.not_asked, api.credits()) == (1, 2, 4)
    assert second["eb_full_name"].tolist() == first["eb_full_name"].tolist()
    assert (second["eb_enriched_at"] > first["eb_enriched_at"]).tolist() == [True, False, False]
    # The contact of another identifier is not the row's.
    report, third = updated(enricher(api, max_credits=0), tables(leads("ada", ada="new@firm.example")))
    assert third.loc["ada", "eb_status"] == "not_asked"
    assert third["eb_full_name"].isna()["ada"]
    # What the leads no longer have is never bought, however old it is.
    report, _ = updated(enricher(api, **soon), tables(leads("bo")))
    assert (report.credits_charged, report.gone) == (1, 2)
    paths = tables(leads("bo", "cy"))
    with pytest.raises(OverBudget, match="2 credits"):
        updated(enricher(api, max_credits=1, over_budget="refuse", **soon), paths)


def test_a_key_that_tells_no_rows_apart_is_refused_before_anything_is_sent(stand_in, enricher, tables):
    api = stand_in(match_rate=1.0)
    buyer = enricher(api)
    source, target = tables(leads("ada", "bo"))
    buyer.enrich_parquet(source, target)
    earlier = pd.read_parquet(target)
    for frame, key, told in [
        (
            leads("ada", "cy", "ada"),
            "id",
            r"does not tell 2 rows \(1, 3, counted from 1 below the header\) of the input",
        ),
        (leads("ada", "", "bo", "  "), "id", r"blank in 2 rows \(2, 4, counted"),
        (
            leads("ada"),
            "idd",
            r"no column 'idd' to tell its rows apart; check the spelling: did you mean 'id'\?",
        ),
        (leads("ada").assign(id=0.5), "id", "neither text nor whole numbers"),
    ]:
        with pytest.raises(InputError, match=told):
            buyer.update_batches(frame, earlier, key=key)
    with pytest.raises(InputError, match=r"1 row .* of the table to update"):
        buyer.update_batches(leads("ada"), earlier.assign(id=["ada", ""]), key="id")
    with pytest.raises(ConfigError, match="go together"):
        buyer.enrich_parquet(source, target, update=target)
    assert api.requests() == 1


def test_a_result_is_recognized_where_leads_are_due_and_leads_where_a_result_is(stand_in, enricher, tables):
    api = stand_in(match_rate=1.0)
    buyer = enricher(api)
    source, target = tables(leads("ada"))
    buyer.enrich_parquet(source, target)
    with pytest.raises(InputError, match="the input is the result of an enrichment"):
        buyer.enrich_parquet(target, target.with_name("other.parquet"))
    with pytest.raises(InputError, match="was not enriched before"):
        buyer.update_batches(leads("ada"), leads("ada"), key="id")
    with pytest.raises(InputError, match="start with 'eb_'; choose that prefix"):
        enricher(api, prefix="x_").update_batches(leads("ada"), pd.read_parquet(target), key="id")
    # Who was rejected or forgotten stands in the ledger that paid for the table.
    with pytest.raises(LedgerError, match="with a ledger that is not this one"):
        updated(enricher(api, ledger=source.with_name("other.db")), (source, target))
    leads("ada").to_parquet(target)
    with pytest.raises(LedgerError, match="was not made with this ledger"):
        updated(buyer, (source, target))
