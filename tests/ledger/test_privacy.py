import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import dagster as dg
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests

from eb_dagster import ExactBuyerResource, InputError, build_enriched_contacts_asset
from eb_dagster.identifiers.model import Identifier
from eb_dagster.ledger import privacy, reconcile
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.ledger.replies import apply_reply, decompress
from eb_dagster.tables import atomic_file
from eb_dagster.tables.parquet import read_metadata

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
        check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip


IN_ANOTHER_PROCESS = """
import sys
from contextlib import closing
from eb_dagster.ledger import privacy
from eb_dagster.ledger.ledger import Ledger

where, act, identifier = sys.argv[1:]
kind = "email" if "@" in identifier else "social_profile"
with closing(Ledger(where, endpoint="")) as ledger:
    if act == "suppress":
        privacy.suppress(ledger, [(kind, identifier)])
    else:
        privacy.forget(ledger, kind, identifier)
"""
ACTS = pytest.mark.parametrize("act", ["suppress", "forget"])


@contextmanager
def holding(api, act: Callable[[], object]) -> Iterator[SimpleNamespace]:
    """Between us and the API: does something once a request was charged, before its answer goes on."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            reply = requests.post(api.url + self.path, data=body, headers=dict(self.headers), timeout=30)
            act()
            self.send_response(reply.status_code)
            self.send_header("Content-Length", str(len(reply.content)))
            self.end_headers()
            self.wfile.write(reply.content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield SimpleNamespace(url=f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()


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
    api = stand_in(match_rate=1.0)
    spent = api.credits()
    identifier = JANE if by == "the address that was asked" else profile
    with holding(api, lambda: in_another_process(where, act, identifier)) as held:
        one = enricher(held, ledger=where, timeout=60.0)
        enriched = one.enrich_dataframe(leads(JANE, JOHN))
    assert enriched["eb_status"].tolist() == ["suppressed", "matched"]
    assert name not in str(enriched.to_dict())
    one.close()
    with closing(Ledger(where, endpoint="")) as ledger:
        (stored,) = ledger.replies([1])
        body = decompress(stored)[0].decode()
        assert reconcile.check(ledger) == []
        assert [month.credits for month in reconcile.months(ledger)] == [2]
    assert not [text for text in (name, JANE, profile) if text in body]
    assert JOHN in body
    assert one.report.credits_charged == 2
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
    one = enricher(api, ledger=where)
    one.enrich_dataframe(leads(JANE, JOHN))
    one._ledger.suppression.add([Identifier("email", JANE)])
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
            one._ledger.suppression.add([Identifier("email", JANE)])

        done = thread.submit(once_it_is_there)
        one.write(one.enrich_batches(pa.Table.from_pandas(leads(JOHN, JANE))), target)
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


# What is forgotten, and what is not


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


@contextmanager
def answering_with(body: bytes) -> Iterator[SimpleNamespace]:
    """An API that answers everything alike."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield SimpleNamespace(url=f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()


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
        one = enricher(api, ledger=where)
        before = one.enrich_dataframe(leads(JANE, JOHN))["eb_status"].tolist()
        with closing(Ledger(where, endpoint="")) as ledger:
            booked = [(one.credits, one.in_doubt, one.unreadable) for one in reconcile.months(ledger)]
        one.forget("email", JANE)
        after = one.enrich_dataframe(leads(JANE, JOHN))["eb_status"].tolist()
        assert one.report.requests == 0
    assert after == ["suppressed", before[1]]
    with closing(Ledger(where, endpoint="")) as ledger:
        assert [(one.credits, one.in_doubt, one.unreadable) for one in reconcile.months(ledger)] == booked
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
        one.encode(encoding)
        for text in texts
        for one in (text, text.lower(), quote(text), quote(text, safe=""))
        for encoding in ("utf-8", "utf-16-le", "utf-16-be")
    }


def test_no_byte_of_a_forgotten_person_is_left_on_any_disk(bought, where, tmp_path, postgresql):
    _, start, table = bought
    one = start()
    frame = pd.read_parquet(table)
    texts = text_of(frame, 0)
    neighbours = text_of(frame, 1)
    one.forget("email", JANE)
    one.close()
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


def published(ledger: Ledger, folder: Path, name: str, table: pa.Table) -> Path:
    path = folder / name
    pq.write_table(table, path)
    ledger.publications.note(str(path))
    return path


def test_only_the_rows_of_the_person_go(where, tmp_path):
    people = [
        "jane@firm.com", "jane@firm.com.br", "o'brien@firm.com", "mary.jane@firm.com", "JANE%40firm.com",
        "Jane+tag@firm.com", "x.com/jane.doe", "'jane@firm.com'", None,
    ]  # fmt: skip
    table = pa.table({"number": range(len(people)), "who": people})
    with closing(Ledger(where, endpoint="")) as ledger:
        path = published(ledger, tmp_path, "table.parquet", table)
        gone = privacy.forget(ledger, "email", "jane@firm.com")
        assert (gone.rows, gone.tables, gone.unsearched[:-1] if "://" in where else gone.unsearched) == (
            4,
            1,
            (),
        )
        assert pq.read_table(path)["number"].to_pylist() == [1, 2, 3, 6, 8]
        assert privacy.forget(ledger, "social_profile", "x.com/jane").rows == 0
        assert privacy.forget(ledger, "email", "brien@firm.com").rows == 0
        assert privacy.forget(ledger, "email", "jane@firm.com").rows == 0


@pytest.mark.parametrize(
    "kind",
    [
        pa.string_view(), pa.binary(), pa.list_(pa.string(), 1), pa.map_(pa.string(), pa.string()),
        pa.dictionary(pa.int8(), pa.string()),
        pa.list_(pa.struct([("a", pa.string())])),
    ],
    ids=str,
)  # fmt: skip
def test_rows_are_taken_out_of_a_table_with_columns_of_any_type(tmp_path, kind):
    def cell(text: str) -> object:
        if pa.types.is_binary(kind):
            return text.encode()
        if pa.types.is_map(kind):
            return [("a", text)]
        if pa.types.is_list(kind):
            return [{"a": text}]
        return [text] if pa.types.is_fixed_size_list(kind) else text

    column = pa.array([cell(JOHN), cell(JANE), cell("x"), None], kind)
    with closing(Ledger(tmp_path / "ledger.db", endpoint="")) as ledger:
        path = published(ledger, tmp_path, "table.parquet", pa.table({"id": [1, 2, 3, 4], "who": column}))
        schema = pq.read_schema(path)
        assert privacy.forget(ledger, "email", JANE).rows == 1
        left = pq.read_table(path)
    assert left["id"].to_pylist() == [1, 3, 4]
    assert left.schema.field("who").type == schema.field("who").type
    assert JANE.encode() not in path.read_bytes()


@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_a_text_table_keeps_its_other_rows_to_the_byte(tmp_path, start):
    rows = [
        start + "name;mail\n", f'"Jane\nDoe";{JANE}\n', "John;'+4917055501451\n", f'"{{""m"":""{JANE}""}}";x\n',
        "Mary;jane@firm.example.br\r\n", "no end;here",
    ]  # fmt: skip
    path = tmp_path / "contacts.csv"
    path.write_bytes("".join(rows).encode())
    with closing(Ledger(tmp_path / "ledger.db", endpoint="")) as ledger:
        ledger.publications.note(str(path))
        gone = privacy.forget(ledger, "email", JANE)
        assert (gone.rows, gone.tables, gone.unsearched) == (2, 1, ())
        assert path.read_bytes().decode() == "".join([rows[0], rows[2], rows[4], rows[5]])
        assert path.stat().st_mode & 0o777 == 0o600
        assert privacy.forget(ledger, "phone", "0170 5550 1451", default_region="DE").rows == 1
    assert path.read_bytes().decode() == "".join([rows[0], rows[4], rows[5]])


def test_what_cannot_be_searched_is_named_and_the_rest_is_forgotten(bought, where, tmp_path):
    _, start, _ = bought
    (tmp_path / "odd.parquet").write_bytes(b"a table once")
    (tmp_path / "odd.csv").write_bytes("J\xe4ne".encode("utf-16"))
    one = start()
    for name in ("odd.parquet", "odd.csv", "gone.parquet"):
        one._ledger.publications.note(str(tmp_path / name))
    gone = one.forget("email", JANE)
    assert (gone.contacts, gone.rows, gone.missing_tables) == (1, 1, 1)
    named = {Path(text).name for text in gone.unsearched if text.startswith("/")}
    assert named == {"odd.parquet", "odd.csv", "gone.parquet"}
    assert any("write-ahead log" in text for text in gone.unsearched) == ("://" in where)


def test_what_a_crash_left_beside_tables_and_ledger_goes(bought, where, tmp_path):
    _, start, _ = bought
    torn = [tmp_path / f".{name}.0123456789abcdef.tmp" for name in ("out.parquet", "other.csv")]
    if "://" not in where:
        torn.append(Path(where).parent / ".copy.db.0123456789abcdef.tmp")
    for path in torn:
        path.write_bytes(JANE.encode())
    (tmp_path / ".hidden.tmp").write_text("the user's")
    with atomic_file.published(tmp_path / "live.parquet") as sink:
        sink.write(b"half")
        assert start().forget("email", JANE).torn_files == len(torn)
        sink.write(b" and half")
    assert not [path for path in torn if path.exists()]
    assert (tmp_path / "live.parquet").read_bytes() == b"half and half"
    assert (tmp_path / ".hidden.tmp").exists()


def test_what_a_crash_left_of_an_object_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / ".eb_dagster-object.0123456789abcdef.tmp").write_bytes(JANE.encode())
    assert atomic_file.clear_torn_objects() == 1
    assert list(tmp_path.iterdir()) == []


def test_several_people_are_forgotten_at_once(bought):
    api, start, table = bought
    one = start()
    gone = one.forget("email", [JANE, f"John <{JOHN}>"])
    assert (gone.contacts, gone.rows, gone.tables) == (2, 2, 1)
    assert pq.read_table(table).num_rows == 0
    spent = api.credits()
    assert one.enrich_dataframe(leads(JANE, JOHN))["eb_status"].tolist() == ["suppressed"] * 2
    assert api.credits() == spent


@pytest.mark.parametrize("step", range(4))
def test_forgetting_goes_on_where_it_broke_off(bought, where, step):
    """Killed at some step or other: what was done by then, doing it again does the rest."""
    _, start, table = bought
    one = start()
    killed = subprocess.run(
        [sys.executable, "-c", BROKEN_OFF, where, JANE, str(step)],
        check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert killed.returncode == 9
    assert one.enrich_dataframe(leads(JANE))["eb_status"].tolist() == ["suppressed"]
    one.forget("email", JANE)
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
    one = enricher(api, ledger=where)
    frame = pd.DataFrame({"phone": ["+17734749362"]})
    address = one.enrich_dataframe(frame)["eb_work_email"].iloc[0]
    one.forget("email", address)
    assert one.enrich_dataframe(frame)["eb_status"].tolist() == ["suppressed"]
    assert api.credits() == 1


def test_whoever_is_taken_off_the_list_is_asked_again(stand_in, enricher, where):
    api = stand_in(match_rate=1.0)
    one = enricher(api, ledger=where)
    assert one.suppress([("email", f"{JANE}; {JOHN}")]) == 2
    assert one.unsuppress([("email", JANE.upper()), ("email", "nobody@firm.example")]) == 1
    assert one.unsuppress([("email", JANE)]) == 0
    assert one.enrich_dataframe(leads(JANE, JOHN))["eb_status"].tolist() == ["matched", "suppressed"]


@pytest.mark.parametrize(
    ("do", "words"),
    [
        (lambda one: one.suppress([("canary@firm.example", "email")]), "swapped: give the kind first"),
        (lambda one: one.forget("canary@firm.example", "email"), "swapped: give the kind first"),
        (lambda one: one.suppress([("mail", "canary@firm.example")]), "no such kind of identifier; choose"),
        (lambda one: one.suppress("canary@firm.example"), "a list of pairs"),
        (lambda one: one.suppress(["canary@firm.example"]), "a list of pairs"),
        (lambda one: one.suppress(("email", "canary@firm.example")), "a list of pairs"),
        (lambda one: one.suppress({"email": "canary@firm.example"}), "a list of pairs"),
        (lambda one: one.suppress([("email", None)]), "of type NoneType, not text"),
        (lambda one: one.forget("email", 17), "of type int, not text"),
        (lambda one: one.unsuppress([("email", "canary")]), "1 \\(at 1, counted from 1\\).*Nothing was changed"),
    ],
)  # fmt: skip
def test_who_is_given_in_another_shape_is_told_so(bought, do, words):
    _, start, _ = bought
    with pytest.raises(InputError, match=words) as told:
        do(start())
    assert "canary" not in str(told.value)


@ACTS
def test_rights_hold_while_another_process_buys(stand_in, enricher, where, act):
    """Beside a run that writes the whole time: nobody fails, and nobody is missed."""
    api = stand_in(match_rate=1.0)
    one = enricher(api, ledger=where, partition_size=10)
    people = [f"p{number}@firm.example" for number in range(1500)]
    with ThreadPoolExecutor(1) as thread:
        run = thread.submit(one.enrich_dataframe, leads(*people))
        for number in (1400, 700, 3):
            in_another_process(where, act, f"p{number}@firm.example")
        statuses = run.result()["eb_status"]
    assert set(statuses) <= {"matched", "suppressed"}
    again = one.enrich_dataframe(leads(*people))["eb_status"]
    assert [at for at, status in enumerate(again) if status == "suppressed"] == [3, 700, 1400]
    assert api.charged_twice() == 0
