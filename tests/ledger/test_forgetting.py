"""Who is forgotten is in no byte of the ledger and its tables."""

import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pandas as pd
import pyarrow.parquet as pq
import pytest

from eb_dagster.ledger import privacy, reconcile
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.ledger.replies import decompress
from tests.ledger.people import (
    JANE,
    JOHN,
    answering_with,
    files_of,
    leads,
    text_of,
)


def test_who_is_forgotten_is_in_no_byte_of_ledger_and_tables(bought, where):
    _, start, table = bought
    before = pd.read_parquet(table)
    jane, john = text_of(before, 0), text_of(before, 1)
    buyer = start()
    gone = buyer.forget("email", "JANE@Firm.example")
    buyer.close()
    assert (gone.contacts, gone.rows, gone.tables) == (1, 1, 1)
    left = pd.read_parquet(table)
    assert left["id"].tolist() == ["lead1"]
    assert text_of(left, 0) == john
    for path in files_of(where, table):
        data = path.read_bytes().lower()
        for text in (JANE, *jane):
            assert text.lower().encode() not in data, path.name
    assert table.stat().st_mode & 0o777 == 0o600


def test_who_is_forgotten_is_never_bought_again_under_any_address(bought, where):
    api, start, table = bought
    own = text_of(pd.read_parquet(table), 0)[:-1]
    start().forget("email", JANE)
    spent = api.credits()
    frame = pd.DataFrame({"email": [JANE, JOHN, None], "linkedin_url": [None, None, next(t for t in own if "linkedin" in t)]})  # fmt: skip
    again = start()
    enriched = again.enrich_dataframe(frame)
    assert enriched["eb_status"].tolist() == ["suppressed", "matched", "suppressed"]
    assert enriched["eb_query"].isna().tolist() == [True, False, True]
    assert api.credits() == spent
    with closing(Ledger(where, endpoint="")) as ledger:
        assert reconcile.check(ledger) == []
        assert reconcile.reread(ledger).contacts == 0


def test_the_raw_reply_keeps_everybody_else(bought):
    api, start, _ = bought
    first = start().enrich_dataframe(leads(JOHN))
    start().forget("email", JANE)
    again = start()
    second = again.enrich_dataframe(leads(JOHN))
    assert again.report.requests == 0
    pd.testing.assert_frame_equal(first, second, check_flags=False)
    assert api.charged_twice() == 0


def test_who_was_bought_twice_under_two_identifiers_is_forgotten_whole(stand_in, enricher, where):
    api = stand_in(match_rate=1.0)
    first = enricher(api, ledger=where, aliases=()).enrich_dataframe(leads(JANE))
    profile = first["eb_linkedin_url"].iloc[0]
    enricher(api, ledger=where, aliases=()).enrich_dataframe(pd.DataFrame({"linkedin_url": [profile]}))
    gone = enricher(api, ledger=where).forget("social_profile", profile)
    assert gone.contacts >= 1
    with closing(Ledger(where, endpoint="")) as ledger:
        for stored in ledger.replies([1]):
            assert JANE.encode() not in stored.body


def test_a_person_is_found_by_a_phone_that_is_only_inside_the_contact(bought, where):
    _, start, table = bought
    frame = pd.read_parquet(table)
    row = next(index for index in (0, 1) if frame["eb_phone"].notna().iloc[index])
    gone = start().forget("phone", frame["eb_phone"].iloc[row])
    assert (gone.contacts, gone.rows) == (1, 1)
    digits = frame["eb_phone"].iloc[row].lstrip("+").encode()
    for path in files_of(where, table):
        assert digits not in path.read_bytes()


def reply_of(*entries: object, count: int = 1) -> bytes:
    return json.dumps({"contacts": entries, "records_enriched": count}).encode()


def jane_at(echo: str | None) -> dict[str, object]:
    contact = {
        "full_name": "Canary Doe",
        "current_work_email": JANE,
        "phone_numbers": [{"E164": "+17734749362"}],
    }
    return {"enriched_contact": contact, "value": echo} if echo else {"enriched_contact": contact}


def john_at(echo: str | None, **more: object) -> dict[str, object]:
    contact = {"full_name": "John Other", "current_work_email": JOHN, **more}
    return {"enriched_contact": contact, "value": echo} if echo else {"enriched_contact": contact}


@pytest.mark.parametrize(
    ("body", "keeps_john"),
    [
        (reply_of(jane_at(None), john_at(JOHN), count=2), True),
        (reply_of(jane_at(None), john_at(None), count=2), False),
        (reply_of(jane_at("no spelling of hers"), john_at(JOHN), count=2), True),
        (reply_of(jane_at(JANE), john_at(JOHN), john_at(JANE), count=3), True),
        (b"<html>Canary Doe, jane@firm.example, John Other</html>", False),
        (reply_of(john_at(JOHN), jane_at(JANE), count=2)[:-60], True),
        (reply_of(john_at(JOHN, seen_with={"name": "x", "mail": "JANE@firm.example"})), True),
    ],
    ids=["no echo", "no echoes", "another echo", "two contacts", "no JSON", "torn", "named by another"],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_reply_that_cannot_be_told_apart_goes_and_its_bookkeeping_stays(enricher, where, body, keeps_john):
    with answering_with(body) as api:
        buyer = enricher(api, ledger=where)
        before = buyer.enrich_dataframe(leads(JANE, JOHN))["eb_status"].tolist()
        with closing(Ledger(where, endpoint="")) as ledger:
            booked = [(month.credits, month.in_doubt, month.unreadable) for month in reconcile.months(ledger)]
        buyer.forget("email", JANE)
        after = buyer.enrich_dataframe(leads(JANE, JOHN))["eb_status"].tolist()
        assert buyer.report.requests == 0
    assert after == ["suppressed", before[1]]
    with closing(Ledger(where, endpoint="")) as ledger:
        still_booked = [
            (month.credits, month.in_doubt, month.unreadable) for month in reconcile.months(ledger)
        ]
        assert still_booked == booked
        assert reconcile.check(ledger) == []
        (stored,) = ledger.replies([1])
        kept = decompress(stored)[0].decode()
        assert "Canary" not in kept
        assert JANE not in kept.lower()
        assert ("John Other" in kept) == keeps_john
        # Doing it again finds nobody any more.
        assert privacy.forget(ledger, "email", JANE).contacts == 0


def canaries(*texts: str) -> set[bytes]:
    """As bytes, in whatever encoding they could be in a file."""
    return {
        spelling.encode(encoding)
        for text in texts
        for spelling in (text, text.lower(), quote(text), quote(text, safe=""))
        for encoding in ("utf-8", "utf-16-le", "utf-16-be")
    }


def test_no_byte_of_a_forgotten_person_is_left_on_any_disk(bought, where, tmp_path, postgresql):
    _, start, table = bought
    buyer = start()
    frame = pd.read_parquet(table)
    texts = text_of(frame, 0)
    neighbours = text_of(frame, 1)
    buyer.forget("email", JANE)
    buyer.close()
    wanted = canaries(JANE, *texts)
    files = [*tmp_path.iterdir()]
    if "://" in where:
        postgresql.run("CHECKPOINT")
        name = where.partition("?")[0].rpartition("/")[2]
        of_tables = "SELECT pg_relation_filepath(oid) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i')"  # fmt: skip
        toast = "SELECT pg_relation_filepath(reltoastrelid) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND reltoastrelid <> 0"  # fmt: skip
        files += [postgresql.folder / path for query in (of_tables, toast) for (path,) in postgresql.run(query, name=name)]  # fmt: skip
    files = [path for path in files if path.is_file() and not path.name.startswith(("leads", "bill.db"))]
    assert len(files) >= 2
    for path in files:
        data = path.read_bytes()
        assert not [text for text in wanted if text in data], path.name
    kept = pq.read_table(table).to_pylist()
    assert all(text in str(kept) for text in neighbours)


def test_several_people_are_forgotten_at_once(bought):
    api, start, table = bought
    buyer = start()
    gone = buyer.forget("email", [JANE, f"John <{JOHN}>"])
    assert (gone.contacts, gone.rows, gone.tables) == (2, 2, 1)
    assert pq.read_table(table).num_rows == 0
    spent = api.credits()
    assert buyer.enrich_dataframe(leads(JANE, JOHN))["eb_status"].tolist() == ["suppressed"] * 2
    assert api.credits() == spent


@pytest.mark.parametrize("step", range(4))
def test_forgetting_goes_on_where_it_broke_off(bought, where, step):
    """Killed at some step or other: what was done by then, doing it again does the rest."""
    _, start, table = bought
    buyer = start()
    killed = subprocess.run(
        [sys.executable, "-c", BROKEN_OFF, where, JANE, str(step)],
        check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert killed.returncode == 9
    assert buyer.enrich_dataframe(leads(JANE))["eb_status"].tolist() == ["suppressed"]
    buyer.forget("email", JANE)
    assert pq.read_table(table)["id"].to_pylist() == ["lead1"]
    with closing(Ledger(where, endpoint="")) as ledger:
        (stored,) = ledger.replies([1])
        assert JANE.encode() not in decompress(stored)[0]
        assert JOHN.encode() in decompress(stored)[0]
        assert reconcile.check(ledger) == []


# Ends the process in the midst of a step, as a power cut would.
BROKEN_OFF = """
import os, sys
from eb_dagster.ledger import forgetting, privacy
from eb_dagster.ledger.connection import Database
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.ledger.publications import Publications

where, address, step = sys.argv[1:]
steps = [(Publications, "paths"), (privacy, "remove_rows"), (forgetting, "rewrite_outcomes"), (Database, "compact")]
place, name = steps[int(step)]
setattr(place, name, lambda *_, **__: os._exit(9))
privacy.forget(Ledger(where, endpoint=""), "email", address)
"""


def test_whoever_was_found_by_a_phone_alone_is_not_bought_by_it_again(stand_in, enricher, where):
    api = stand_in(match_rate=1.0)
    buyer = enricher(api, ledger=where)
    frame = pd.DataFrame({"phone": ["+17734749362"]})
    address = buyer.enrich_dataframe(frame)["eb_work_email"].iloc[0]
    buyer.forget("email", address)
    assert buyer.enrich_dataframe(frame)["eb_status"].tolist() == ["suppressed"]
    assert api.credits() == 1
