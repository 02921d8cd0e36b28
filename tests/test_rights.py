import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import dagster as dg
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eb_dagster import ExactBuyerResource, InputError, books, build_enriched_contacts_asset
from eb_dagster.identifiers import Identifier
from eb_dagster.ledger import Ledger
from eb_dagster.parquet import read_metadata
from eb_dagster.purchase import apply_reply, decompress

JANE, JOHN = "jane@firm.example", "john@firm.example"


def leads(*addresses: str) -> pd.DataFrame:
    return pd.DataFrame({"id": [f"lead{n}" for n in range(len(addresses))], "email": list(addresses)})


@pytest.fixture
def bought(stand_in, enricher, where, tmp_path):
    """Jane and John, bought into one table; gives the API, a way to open enrichers, and the table."""
    api = stand_in(match_rate=1.0)

    def start(**settings):
        return enricher(api, ledger=where, **settings)

    leads(JANE, JOHN).to_parquet(tmp_path / "leads.parquet", index=False)
    start().enrich_parquet(tmp_path / "leads.parquet", tmp_path / "out.parquet")
    return api, start, tmp_path / "out.parquet"


def text_of(frame: pd.DataFrame, row: int) -> list[str]:
    """What names a person: addresses, profiles and the full name."""
    one = frame.iloc[row]
    return [
        *one["eb_emails"],
        *(profile["url"] for profile in one["eb_social_profiles"]),
        one["eb_full_name"],
    ]


def files_of(where: str, table: Path) -> list[Path]:
    beside = [] if "://" in where else list(Path(where).parent.glob(Path(where).name + "*"))
    return [path for path in (*beside, table) if path.is_file()]


def test_who_is_forgotten_is_in_no_byte_of_ledger_and_tables(bought, where):
    _, start, table = bought
    before = pd.read_parquet(table)
    jane, john = text_of(before, 0), text_of(before, 1)
    one = start()
    gone = one.forget("email", "JANE@Firm.example")
    one.close()
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
        assert books.check(ledger) == []
        assert books.reread(ledger).contacts == 0


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
    row = next(at for at in (0, 1) if frame["eb_phone"].notna().iloc[at])
    gone = start().forget("phone", frame["eb_phone"].iloc[row])
    assert (gone.contacts, gone.rows) == (1, 1)
    digits = frame["eb_phone"].iloc[row].lstrip("+").encode()
    for path in files_of(where, table):
        assert digits not in path.read_bytes()


def test_a_table_that_was_moved_away_is_counted(bought):
    _, start, table = bought
    table.rename(table.with_name("moved.parquet"))
    assert start().forget("email", JANE).missing_tables == 1


def test_nobody_is_forgotten_by_what_is_no_identifier(bought):
    _, start, _ = bought
    with pytest.raises(InputError, match="email_syntax") as error:
        start().forget("email", "canary no address")
    assert "canary" not in str(error.value)


def test_who_is_suppressed_is_not_sent_and_not_handed_out(bought):
    api, start, _ = bought
    one = start()
    assert one.suppress([("email", " JANE@firm.example ")]) == 1
    assert one.suppress([("email", JANE)]) == 0
    spent = api.credits()
    enriched = one.enrich_dataframe(leads(JANE, JOHN))
    assert enriched["eb_status"].tolist() == ["suppressed", "matched"]
    assert enriched["eb_full_name"].isna().tolist() == [True, False]
    assert one.report.suppressed == 1
    assert api.credits() == spent


def test_who_is_suppressed_by_another_address_is_not_handed_out_either(stand_in, enricher, where):
    api = stand_in(match_rate=1.0)
    probe = enricher(api, ledger=where).enrich_dataframe(leads(JANE))
    one = enricher(api, ledger=where)
    one.suppress([("social_profile", probe["eb_linkedin_url"].iloc[0])])
    enriched = one.enrich_dataframe(leads(JANE))
    assert enriched["eb_status"].tolist() == ["suppressed"]
    assert enriched["eb_from_ledger"].tolist() == [False]
    told = [name for name in enriched if name.startswith("eb_")]
    assert enriched[told].drop(columns=["eb_status", "eb_from_ledger"]).isna().all(axis=None)
    assert enriched["eb_matched"].isna().all()
    assert enriched["eb_linkedin_url"].isna().all()


def test_who_is_not_handed_out_counts_for_no_identifier(stand_in, enricher, where):
    api = stand_in(match_rate=0.5)
    numbers = [f"+1202555{at:04d}" for at in range(100, 140)]
    frame = pd.DataFrame({"email": [f"p{at}@firm.example" for at in range(40)], "phone": numbers})
    bought = enricher(api, ledger=where).enrich_dataframe(frame)
    by_phone = bought[(bought["eb_field_type"] == "phone") & bought["eb_linkedin_url"].notna()].iloc[[0]]
    one = enricher(api, ledger=where)
    one.enrich_dataframe(frame.loc[by_phone.index])
    assert one.report.answered_by == {"email": 1, "phone": 1}
    one.suppress([("social_profile", by_phone["eb_linkedin_url"].iloc[0])])
    assert one.enrich_dataframe(frame.loc[by_phone.index])["eb_status"].tolist() == ["suppressed"]
    assert one.report.answered_by == {}


def test_nobody_is_suppressed_if_one_of_the_texts_is_no_identifier(bought):
    _, start, _ = bought
    one = start()
    with pytest.raises(InputError, match="1 \\(at 2, counted from 1\\)"):
        one.suppress([("email", JANE), ("email", "canary no address")])
    assert one.enrich_dataframe(leads(JANE))["eb_status"].tolist() == ["matched"]


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        (
            "social_profile",
            "0170/5550145",
            "A phone number without a country code\\? Then add --kind phone and --region",
        ),
        ("phone", "0170 5550145", "the phone number has no country code; add --region"),
        ("email", "jane at firm", "this is no email \\(email_syntax\\); check the spelling"),
    ],
)
def test_forgetting_what_is_nobody_says_what_may_be_missing(bought, kind, text, words):
    _, start, _ = bought
    with pytest.raises(InputError, match=words) as told:
        start().forget(kind, text)
    assert text not in str(told.value)


def test_the_rewritten_table_is_still_known_to_its_ledger(bought, tmp_path):
    _, start, table = bought
    start().forget("email", JANE)
    again = start()
    again.enrich_parquet(tmp_path / "leads.parquet", table)
    assert again.report.requests == 0
    assert pq.read_table(table)["eb_status"].to_pylist() == ["suppressed", "matched"]


# While a run is under way


def in_another_process(where: str, act: str, identifier: str) -> None:
    subprocess.run(
        [sys.executable, "-c", IN_ANOTHER_PROCESS, str(where), act, identifier],
        check=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip


IN_ANOTHER_PROCESS = """
import sys
from contextlib import closing
from eb_dagster import rights
from eb_dagster.ledger import Ledger

where, act, identifier = sys.argv[1:]
kind = "email" if "@" in identifier else "social_profile"
with closing(Ledger(where, endpoint="")) as ledger:
    if act == "suppress":
        rights.suppress(ledger, [(kind, identifier)])
    else:
        rights.forget(ledger, kind, identifier)
"""
ACTS = pytest.mark.parametrize("act", ["suppress", "forget"])


@contextmanager
def meanwhile(api, where: str, act: str, identifier: str) -> Iterator[None]:
    """Do it in another process as soon as a request has reached the API."""
    before = api.requests()

    def wait_and_act():
        until = time.monotonic() + 30
        while api.requests() == before and time.monotonic() < until:
            time.sleep(0.01)
        in_another_process(where, act, identifier)

    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(wait_and_act)
        yield
        done.result()


def persons_name(stand_in, enricher, tmp_path, address: str) -> tuple[str, str]:
    """The full name and profile that the API gives somebody, told by a ledger that nobody looks into."""
    probe = enricher(stand_in(match_rate=1.0), ledger=tmp_path / "probe" / "ledger.db")
    row = probe.enrich_dataframe(leads(address)).iloc[0]
    return row["eb_full_name"], row["eb_linkedin_url"]


@ACTS
def test_who_is_suppressed_before_the_claim_is_not_sent(stand_in, enricher, where, act):
    api = stand_in(match_rate=1.0)

    def at_first_answer(report):
        if report.replies == 1 and not acted:
            acted.append(True)
            in_another_process(where, act, "p3@firm.example")

    acted: list[bool] = []
    one = enricher(api, ledger=where, partition_size=1, max_credits_at_risk=1, progress=at_first_answer)
    people = [f"p{number}@firm.example" for number in range(5)]
    enriched = one.enrich_dataframe(leads(*people))
    assert enriched["eb_status"].tolist() == ["matched", "matched", "matched", "suppressed", "matched"]
    assert api.credits() == 4 == api.requests()
    assert one.report.suppressed == 1
    assert one.report.matched == 4


def test_whoever_is_suppressed_under_one_identifier_before_the_claim_is_asked_under_no_other(
    stand_in, enricher, where
):
    api = stand_in(match_rate=1.0)

    def at_first_answer(report):
        if report.replies == 1:
            in_another_process(where, "suppress", "linkedin.com/in/jane-example")

    one = enricher(api, ledger=where, partition_size=1, max_credits_at_risk=1, progress=at_first_answer)
    frame = pd.DataFrame({
        "email": [JOHN, JANE, "other@firm.example"],
        "linkedin_url": [None, "https://www.linkedin.com/in/jane-example", None],
    })  # fmt: skip
    enriched = one.enrich_dataframe(frame)
    assert enriched["eb_status"].tolist() == ["matched", "suppressed", "matched"]
    assert api.credits() == 2 == api.requests()


@ACTS
@pytest.mark.parametrize("by", ["the address that was asked", "a profile inside the contact"])
def test_whoever_is_suppressed_in_flight_is_paid_for_and_not_kept(
    stand_in, enricher, where, tmp_path, act, by
):
    name, profile = persons_name(stand_in, enricher, tmp_path, JANE)
    api = stand_in(match_rate=1.0, latency=3.0)
    spent = api.credits()
    one = enricher(api, ledger=where, timeout=30.0)
    with meanwhile(api, where, act, JANE if by == "the address that was asked" else profile):
        enriched = one.enrich_dataframe(leads(JANE, JOHN))
    assert enriched["eb_status"].tolist() == ["suppressed", "matched"]
    assert name not in str(enriched.to_dict())
    one.close()
    with closing(Ledger(where, endpoint="")) as ledger:
        (stored,) = ledger.replies([1])
        body = decompress(stored)[0].decode()
        assert books.check(ledger) == []
        assert [month.credits for month in books.months(ledger)] == [2]
    assert name not in body and JANE not in body and profile not in body
    assert JOHN in body
    assert one.report.credits_charged == 2
    for path in files_of(where, tmp_path / "none"):
        assert profile.encode() not in path.read_bytes()
    again = enricher(api, ledger=where, timeout=30.0)
    assert again.enrich_dataframe(leads(JANE, JOHN))["eb_status"].tolist() == ["suppressed", "matched"]
    assert api.credits() == spent + 2


def test_a_reply_that_waits_to_be_read_is_read_without_whoever_was_suppressed_since(
    stand_in, enricher, where, tmp_path
):
    """As if its process had died between the two."""
    name, _ = persons_name(stand_in, enricher, tmp_path, JANE)
    api = stand_in(match_rate=1.0)
    one = enricher(api, ledger=where)
    one.enrich_dataframe(leads(JANE, JOHN))
    one._ledger.suppress([Identifier("email", JANE)])
    (stored,) = one._ledger.replies([1])
    assert name.encode() in decompress(stored)[0]
    reading = apply_reply(one._ledger, stored)
    assert reading.credits == 2
    (left,) = one._ledger.replies([1])
    assert name.encode() not in decompress(left)[0]
    assert JOHN.encode() in decompress(left)[0]
    assert one.enrich_dataframe(leads(JANE, JOHN))["eb_status"].tolist() == ["suppressed", "matched"]


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
    one = enricher(api, ledger=where, columns=columns, progress=when_rows_have_left)
    frame, target = leads(JOHN, JANE), tmp_path / "out" / "table.parquet"
    if kind == "pandas":
        table = pa.Table.from_pandas(one.enrich_dataframe(frame))
    elif kind == "arrow":
        table = one.enrich_dataframe(pa.Table.from_pandas(frame))
    else:
        frame.to_parquet(tmp_path / "leads.parquet", index=False)
        one.enrich_parquet(tmp_path / "leads.parquet", target)
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
    report = one.report
    assert (report.rows, report.matched, report.suppressed, report.credits_charged) == (2, 1, 1, 2)
    assert report.answered_by == {"email": 1}


def test_whoever_is_suppressed_while_the_file_takes_its_place_is_taken_out_of_it(
    stand_in, enricher, where, tmp_path
):
    api = stand_in(match_rate=1.0)
    one = enricher(api, ledger=where)
    target = tmp_path / "table.parquet"
    with ThreadPoolExecutor(1) as thread:

        def once_it_is_there() -> None:
            while not target.exists():
                time.sleep(0.0005)
            one._ledger.suppress([Identifier("email", JANE)])

        done = thread.submit(once_it_is_there)
        one.write(one.enrich_batches(pa.Table.from_pandas(leads(JOHN, JANE))), target)
        done.result()
    statuses = pq.read_table(target)["eb_status"].to_pylist()
    # Later than that, it was published before.
    assert statuses in (["matched", "suppressed"], ["matched", "matched"])


@ACTS
def test_who_is_suppressed_while_an_asset_is_made_is_not_in_its_table(
    stand_in, enricher, where, tmp_path, act
):
    api = stand_in(match_rate=1.0, latency=3.0)
    asset = build_enriched_contacts_asset(
        name="contacts", source="leads", path=tmp_path / "out" / "contacts.parquet"
    )

    @dg.asset(name="leads")
    def source() -> pd.DataFrame:
        return leads(JANE, JOHN)

    resource = ExactBuyerResource(api_key="canary-key", base_url=api.url, ledger=where)
    with meanwhile(api, where, act, JANE):
        done = dg.materialize([source, asset], resources={"exactbuyer": resource})
    assert done.success
    table = pq.read_table(tmp_path / "out" / "contacts.parquet")
    assert table["eb_status"].to_pylist() == ["suppressed", "matched"]
