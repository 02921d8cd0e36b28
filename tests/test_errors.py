"""Errors as values."""

import pickle
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from eb_dagster import Enricher, ExactBuyerResource, errors, settings
from eb_dagster.cli import main


@pytest.mark.parametrize("kind", [errors.InputError, errors.Busy, errors.LedgerError])
def test_an_error_can_be_sent_to_another_process(kind):
    error = kind("fix it")
    error.spent = "3 credits were charged"
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (kind, "fix it. 3 credits were charged")


def test_a_refusal_keeps_its_status_on_the_way():
    assert pickle.loads(pickle.dumps(errors.Refused("top up", status=403))).status == 403


CANARIES = (
    "canary@firm.example",
    "+17734749362",
    "linkedin.com/in/canary-doe",
    "sk_live_4242424242",
    "Canary Doe",
)
# Any text may be a key; where the ledger is may be shown.
SETTINGS = sorted(settings.SETTINGS.keys() - {"api_key", "ledger"})


def said_of(make) -> str:
    with pytest.raises(Exception) as told:  # noqa: PT011 - whatever it is, it is read
        make()
    return f"{told.value!r} {told.value}"


@pytest.mark.parametrize("canary", CANARIES)
@pytest.mark.parametrize(
    "shape", [str, lambda text: [text], lambda text: {text: text}, lambda text: {text: 1}]
)
@pytest.mark.parametrize("setting", SETTINGS)
def test_no_setting_is_shown_that_may_be_a_person_or_a_key(setting, shape, canary, tmp_path):
    def start(**given):
        settings: dict[str, Any] = {"api_key": "k", "ledger": tmp_path / "ledger.db", **given}
        with Enricher(**settings) as buyer:
            buyer.plan(pd.DataFrame({"name": ["x"]}))

    assert canary not in said_of(lambda: start(**{setting: shape(canary)}))


@pytest.mark.parametrize(
    "setting", ["partition_size", "max_credits", "timeout", "max_age", "prefix", "columns"]
)
def test_a_number_that_may_be_a_phone_is_not_shown(setting, tmp_path):
    settings = {"api_key": "k", "ledger": tmp_path / "ledger.db", setting: -17734749362}
    assert "17734749362" not in said_of(lambda: Enricher(**settings)).replace(",", "")


@pytest.mark.parametrize("canary", [canary for canary in CANARIES if not canary.startswith("+")])
@pytest.mark.parametrize("setting", ["timeout", "max_credits_at_risk", "requests_per_minute", "in_doubt"])
def test_the_resource_shows_no_such_setting_either(setting, canary):
    assert canary not in said_of(
        lambda: ExactBuyerResource(**{"api_key": "k", "ledger": "/l.db", setting: canary})
    )


@pytest.mark.parametrize("canary", CANARIES)
@pytest.mark.parametrize("option", ["--required", "--region", "--columns", "--encoding"])
def test_the_shell_shows_no_such_setting_either(option, canary, tmp_path, monkeypatch):
    monkeypatch.setenv("EXACTBUYER_API_KEY", "k")
    (tmp_path / "leads.csv").write_text("email\nx@firm.example\n")
    words = ["enrich", str(tmp_path / "leads.csv"), "-o", str(tmp_path / "out.csv"), option, canary]
    done = CliRunner().invoke(main, [*words, "--ledger", str(tmp_path / "ledger.db")])
    assert done.exit_code == 2
    assert canary not in done.output


def test_what_is_plainly_a_word_is_shown():
    assert errors.shown(["phones", 7, None, "cp1252", ""]) == "['phones', 7, None, 'cp1252', '']"
