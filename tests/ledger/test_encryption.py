"""The key of the stored replies: marked, missed, changed."""

import base64
from contextlib import closing
from datetime import timedelta

import pandas as pd
import pytest

from eb_dagster import ConfigError, EnrichError, LedgerError
from eb_dagster.ledger import privacy, reconcile
from eb_dagster.ledger.ledger import Ledger
from tests.ledger.steps import ENDPOINT, JANE, answer, claim


def test_replies_are_encrypted_if_the_environment_names_a_key(where, monkeypatch):
    import base64

    monkeypatch.setenv("EB_DAGSTER_LEDGER_KEY", base64.b64encode(bytes(range(32))).decode())
    with closing(Ledger(where, endpoint=ENDPOINT)) as ledger:
        answer(ledger, claim(ledger, JANE).request_id, 0)
        assert next(ledger.replies([1])).body == b"raw"
        with ledger.database.reading() as connection:
            row = connection.exec_driver_sql("SELECT body, encoding FROM replies").one()
        assert b"raw" not in bytes(row.body)
        assert row.encoding.startswith("aes256gcm:")


KEYS = {name: base64.b64encode(bytes([index]) * 32).decode() for index, name in enumerate("ABC")}
ANN, BOB, CY = ({"email": [f"{name}@firm.example"]} for name in ("ann", "bob", "cy"))


@pytest.fixture
def keys(monkeypatch):
    """Set the key, and the old ones."""

    def choose(key: str | None, *old: str) -> None:
        for name, text in (
            ("EB_DAGSTER_LEDGER_KEY", "" if key is None else KEYS[key]),
            ("EB_DAGSTER_LEDGER_KEY_OLD", ",".join(KEYS[name] for name in old)),
        ):
            monkeypatch.setenv(name, text)

    return choose


@pytest.fixture
def run(stand_in, enricher, where):
    """Enrich people; gives the names that are found."""
    api = stand_in(match_rate=1.0)

    def enrich(*people):
        buyer = enricher(api, ledger=where)
        try:
            frame = pd.concat([pd.DataFrame(person) for person in people], ignore_index=True)
            return buyer.enrich_dataframe(frame)["eb_full_name"].tolist()
        finally:
            buyer.close()

    enrich.api = api
    return enrich


@pytest.mark.parametrize("key", ["B", None])
def test_another_key_or_none_is_refused_before_anything_is_sent(run, keys, key):
    keys("A")
    run(ANN)
    keys(key)
    with pytest.raises(LedgerError):
        run(BOB)
    assert run.api.requests() == 1
    keys("A")
    assert run(ANN) != [None]
    assert run.api.requests() == 1


def test_a_key_may_be_set_for_the_first_time_and_what_was_bought_before_is_read(run, keys, where):
    keys(None)
    (ann,) = run(ANN)
    keys("A")
    assert run(ANN, BOB)[0] == ann
    with closing(Ledger(where, endpoint="")) as ledger, ledger.database.reading() as connection:
        names = [row.encoding for row in connection.exec_driver_sql("SELECT * FROM replies ORDER BY 1")]
    assert [name.startswith("aes256gcm:") for name in names] == [False, True]
    keys(None)
    with pytest.raises(LedgerError, match="encrypted"):
        run(CY)


def test_a_key_is_changed_by_giving_the_one_before_as_well(run, keys, where):
    keys("A")
    (ann,) = run(ANN)
    keys("B", "A")
    assert run(ANN, BOB)[0] == ann
    assert run.api.requests() == 2
    # The mark has moved: the one before opens no more, and the new one alone not all.
    for key in ("A", "B"):
        keys(key)
        with pytest.raises(LedgerError):
            run(CY)
    keys("C", "B", "A")
    assert run(ANN, BOB, CY)[0] == ann
    with closing(Ledger(where, endpoint="")) as ledger:
        assert reconcile.check(ledger) == []
    assert run.api.requests() == 3


def test_once_what_an_old_key_sealed_is_gone_the_new_one_will_do(run, keys, where):

    keys("A")
    run(ANN)
    keys("B", "A")
    run(BOB)
    with closing(Ledger(where, endpoint="")) as ledger:
        privacy.purge(ledger, older_than=timedelta(microseconds=1))
    keys("B")
    run(CY)


def test_a_process_that_goes_on_with_the_key_before_asks_nothing_more(stand_in, enricher, where, keys):
    api = stand_in(match_rate=1.0)
    keys("A")
    before = enricher(api, ledger=where)
    before.enrich_dataframe(pd.DataFrame(ANN))
    keys("B", "A")
    enricher(api, ledger=where).enrich_dataframe(pd.DataFrame(BOB))
    with pytest.raises(LedgerError, match="not that of"):
        before.enrich_dataframe(pd.DataFrame(CY))
    assert api.requests() == 2


def test_looking_into_the_ledger_needs_no_key_and_a_check_tells_what_it_cannot_open(run, keys, where):
    keys("A")
    run(ANN)
    keys(None)
    with closing(Ledger(where, endpoint="", must_exist=True)) as ledger:
        assert reconcile.months(ledger)[0].credits == 1
        assert reconcile.check(ledger) == ["request 1: its reply cannot be opened with the key that is given"]


@pytest.mark.parametrize("variable", ["EB_DAGSTER_LEDGER_KEY", "EB_DAGSTER_LEDGER_KEY_OLD"])
def test_what_is_no_key_is_refused_and_named(run, monkeypatch, variable):
    monkeypatch.setenv(variable, "c2hvcnQ=")
    with pytest.raises(ConfigError, match=f"{variable} is not a key") as error:
        run(ANN)
    assert isinstance(error.value, EnrichError)
    assert "c2hvcnQ" not in str(error.value)
