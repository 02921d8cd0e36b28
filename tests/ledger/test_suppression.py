"""Who is suppressed is neither sent nor handed out, at whatever moment it happens."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import dagster as dg
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eb_dagster import ExactBuyerResource, build_enriched_contacts_asset
from eb_dagster.identifiers.model import Identifier
from eb_dagster.ledger import reconcile
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.ledger.replies import apply_reply, decompress
from eb_dagster.tables.parquet import read_metadata
from tests.ledger import steps
from tests.ledger.people import ACTS, JANE, JOHN, files_of, holding, in_another_process, leads, persons_name


def test_who_is_suppressed_is_so_at_every_endpoint(ledger, where):
    with closing(Ledger(where, endpoint="https://api.example/v1/bulk-enrich")) as other:
        assert ledger.suppression.add([steps.JANE]) == 1
        assert other.suppression.matching([steps.JANE, steps.JOHN]) == {steps.JANE}
        assert other.suppression.remove([steps.JANE, steps.JOHN]) == 1
        assert ledger.suppression.matching([steps.JANE, steps.JOHN]) == set()


def test_who_is_suppressed_is_not_sent_and_not_handed_out(bought):
    api, start, _ = bought
    buyer = start()
    assert buyer.suppress([("email", " JANE@firm.example ")]) == 1
    assert buyer.suppress([("email", JANE)]) == 0
    spent = api.credits()
    enriched = buyer.enrich_dataframe(leads(JANE, JOHN))
    assert enriched["eb_status"].tolist() == ["suppressed", "matched"]
    assert enriched["eb_full_name"].isna().tolist() == [True, False]
    assert buyer.report.suppressed == 1
    assert api.credits() == spent


def test_who_is_suppressed_by_another_address_is_not_handed_out_either(stand_in, enricher, where):
    api = stand_in(match_rate=1.0)
    probe = enricher(api, ledger=where).enrich_dataframe(leads(JANE))
    buyer = enricher(api, ledger=where)
    buyer.suppress([("social_profile", probe["eb_linkedin_url"].iloc[0])])
    enriched = buyer.enrich_dataframe(leads(JANE))
    assert enriched["eb_status"].tolist() == ["suppressed"]
    assert enriched["eb_from_ledger"].tolist() == [False]
    told = [name for name in enriched if name.startswith("eb_")]
    assert enriched[told].drop(columns=["eb_status", "eb_from_ledger"]).isna().all(axis=None)
    assert enriched["eb_matched"].isna().all()
    assert enriched["eb_linkedin_url"].isna().all()


def test_who_is_not_handed_out_counts_for_no_identifier(stand_in, enricher, where):
    api = stand_in(match_rate=0.5)
    numbers = [f"+1202555{number:04d}" for number in range(100, 140)]
    frame = pd.DataFrame({"email": [f"p{number}@firm.example" for number in range(40)], "phone": numbers})
    bought = enricher(api, ledger=where).enrich_dataframe(frame)
    by_phone = bought[(bought["eb_field_type"] == "phone") & bought["eb_linkedin_url"].notna()].iloc[[0]]
    buyer = enricher(api, ledger=where)
    buyer.enrich_dataframe(frame.loc[by_phone.index])
    assert buyer.report.answered_by == {"email": 1, "phone": 1}
    buyer.suppress([("social_profile", by_phone["eb_linkedin_url"].iloc[0])])
    assert buyer.enrich_dataframe(frame.loc[by_phone.index])["eb_status"].tolist() == ["suppressed"]
    assert buyer.report.answered_by == {}


@ACTS
def test_who_is_suppressed_before_the_claim_is_not_sent(stand_in, enricher, where, act):
    api = stand_in(match_rate=1.0)

    def at_first_answer(report):
        if report.replies == 1 and not acted:
            acted.append(True)
            in_another_process(where, act, "p3@firm.example")

    acted: list[bool] = []
    buyer = enricher(api, ledger=where, partition_size=1, max_credits_at_risk=1, progress=at_first_answer)
    people = [f"p{number}@firm.example" for number in range(5)]
    enriched = buyer.enrich_dataframe(leads(*people))
    assert enriched["eb_status"].tolist() == ["matched", "matched", "matched", "suppressed", "matched"]
    assert api.credits() == 4 == api.requests()
    assert buyer.report.suppressed == 1
    assert buyer.report.matched == 4


def test_whoever_is_suppressed_under_one_identifier_before_the_claim_is_asked_under_no_other(
    stand_in, enricher, where
):
    api = stand_in(match_rate=1.0)

    def at_first_answer(report):
        if report.replies == 1:
            in_another_process(where, "suppress", "linkedin.com/in/jane-example")

    buyer = enricher(api, ledger=where, partition_size=1, max_credits_at_risk=1, progress=at_first_answer)
    frame = pd.DataFrame({
        "email": [JOHN, JANE, "other@firm.example"],
        "linkedin_url": [None, "https://www.linkedin.com/in/jane-example", None],
    })  # fmt: skip
    enriched = buyer.enrich_dataframe(frame)
    assert enriched["eb_status"].tolist() == ["matched", "suppressed", "matched"]
    assert api.credits() == 2 == api.requests()


@ACTS
@pytest.mark.parametrize("by", ["the address that was asked", "a profile inside the contact"])
def test_whoever_is_suppressed_in_flight_is_paid_for_and_not_kept(
    stand_in, enricher, where, tmp_path, act, by
):
    name, profile = persons_name(stand_in, enricher, tmp_path, JANE)
    api = stand_in(match_rate=1.0)
    spent = api.credits()
    identifier = JANE if by == "the address that was asked" else profile
    with holding(api, lambda: in_another_process(where, act, identifier)) as held:
        buyer = enricher(held, ledger=where, timeout=60.0)
        enriched = buyer.enrich_dataframe(leads(JANE, JOHN))
    assert enriched["eb_status"].tolist() == ["suppressed", "matched"]
    assert name not in str(enriched.to_dict())
    buyer.close()
    with closing(Ledger(where, endpoint="")) as ledger:
        (stored,) = ledger.replies([1])
        body = decompress(stored)[0].decode()
        assert reconcile.check(ledger) == []
        assert [month.credits for month in reconcile.months(ledger)] == [2]
    assert not [text for text in (name, JANE, profile) if text in body]
    assert JOHN in body
    assert buyer.report.credits_charged == 2
    for path in files_of(where, tmp_path / "none"):
        assert profile.encode() not in path.read_bytes()
    # At the same address, or it would be another API.
    again = enricher(held, ledger=where)
    assert again.enrich_dataframe(leads(JANE, JOHN))["eb_status"].tolist() == ["suppressed", "matched"]
    assert api.credits() == spent + 2


def test_a_reply_that_waits_to_be_read_is_read_without_whoever_was_suppressed_since(
    stand_in, enricher, where, tmp_path
):
    """As if its process had died between the two."""
    name, _ = persons_name(stand_in, enricher, tmp_path, JANE)
    api = stand_in(match_rate=1.0)
    buyer = enricher(api, ledger=where)
    buyer.enrich_dataframe(leads(JANE, JOHN))
    buyer._ledger.suppression.add([Identifier("email", JANE)])
    (stored,) = buyer._ledger.replies([1])
    assert name.encode() in decompress(stored)[0]
    reading = apply_reply(buyer._ledger, stored)
    assert reading.credits == 2
    (left,) = buyer._ledger.replies([1])
    assert name.encode() not in decompress(left)[0]
    assert JOHN.encode() in decompress(left)[0]
    assert buyer.enrich_dataframe(leads(JANE, JOHN))["eb_status"].tolist() == ["suppressed", "matched"]


@ACTS
@pytest.mark.parametrize("columns", [None, ["job_title"]])
@pytest.mark.parametrize("kind", ["pandas", "arrow", "parquet"])
@pytest.mark.parametrize("by", ["address", "profile"])
def test_who_is_suppressed_before_the_table_is_published_is_not_in_it(
    stand_in, enricher, where, tmp_path, act, columns, kind, by
):
    _, profile = persons_name(stand_in, enricher, tmp_path, JANE)
    api = stand_in(match_rate=1.0)
    identifier = JANE if by == "address" else profile

    def when_rows_have_left(report):
        if report.rows and not acted:
            acted.append(True)
            in_another_process(where, act, identifier)

    acted: list[bool] = []
    buyer = enricher(api, ledger=where, columns=columns, progress=when_rows_have_left)
    frame, target = leads(JOHN, JANE), tmp_path / "out" / "table.parquet"
    if kind == "pandas":
        table = pa.Table.from_pandas(buyer.enrich_dataframe(frame))
    elif kind == "arrow":
        table = buyer.enrich_dataframe(pa.Table.from_pandas(frame))
    else:
        frame.to_parquet(tmp_path / "leads.parquet", index=False)
        buyer.enrich_parquet(tmp_path / "leads.parquet", target)
        table = pq.read_table(target)
        assert [path.name for path in target.parent.iterdir()] == ["table.parquet"]
        assert target.stat().st_mode & 0o777 == 0o600
        assert read_metadata(target)["request"] == "1"
    assert acted
    assert table["eb_status"].to_pylist() == ["matched", "suppressed"]
    assert table["id"].to_pylist() == ["lead0", "lead1"]
    for name in (name for name in table.column_names if name.startswith("eb_")):
        if name not in ("eb_status", "eb_from_ledger"):
            assert table[name].to_pylist()[1] is None, name
    report = buyer.report
    assert (report.rows, report.matched, report.suppressed, report.credits_charged) == (2, 1, 1, 2)
    assert report.answered_by == {"email": 1}


def test_whoever_is_suppressed_while_the_file_takes_its_place_is_taken_out_of_it(
    stand_in, enricher, where, tmp_path
):
    api = stand_in(match_rate=1.0)
    buyer = enricher(api, ledger=where)
    target = tmp_path / "table.parquet"
    with ThreadPoolExecutor(1) as thread:

        def once_it_is_there() -> None:
            while not target.exists():
                time.sleep(0.0005)
            buyer._ledger.suppression.add([Identifier("email", JANE)])

        done = thread.submit(once_it_is_there)
        buyer.write(buyer.enrich_batches(pa.Table.from_pandas(leads(JOHN, JANE))), target)
        done.result()
    statuses = pq.read_table(target)["eb_status"].to_pylist()
    # Later than that, it was published before.
    assert statuses in (["matched", "suppressed"], ["matched", "matched"])


@ACTS
def test_who_is_suppressed_while_an_asset_is_made_is_not_in_its_table(stand_in, where, tmp_path, act):
    api = stand_in(match_rate=1.0)
    asset = build_enriched_contacts_asset(
        name="contacts", source="leads", path=tmp_path / "out" / "contacts.parquet"
    )

    @dg.asset(name="leads")
    def source() -> pd.DataFrame:
        return leads(JANE, JOHN)

    with holding(api, lambda: in_another_process(where, act, JANE)) as held:
        resource = ExactBuyerResource(api_key="canary-key", base_url=held.url, ledger=where)
        done = dg.materialize([source, asset], resources={"exactbuyer": resource})
    assert done.success
    table = pq.read_table(tmp_path / "out" / "contacts.parquet")
    assert table["eb_status"].to_pylist() == ["suppressed", "matched"]


@ACTS
def test_rights_hold_while_another_process_buys(stand_in, enricher, where, act):
    """Beside a run that writes the whole time: nobody fails, and nobody is missed."""
    api = stand_in(match_rate=1.0)
    buyer = enricher(api, ledger=where, partition_size=10)
    people = [f"p{number}@firm.example" for number in range(600)]
    with ThreadPoolExecutor(1) as thread:
        run = thread.submit(buyer.enrich_dataframe, leads(*people))
        for number in (550, 300, 3):
            in_another_process(where, act, f"p{number}@firm.example")
        statuses = run.result()["eb_status"]
    assert set(statuses) <= {"matched", "suppressed"}
    again = buyer.enrich_dataframe(leads(*people))["eb_status"]
    assert [index for index, status in enumerate(again) if status == "suppressed"] == [3, 300, 550]
    assert api.charged_twice() == 0
