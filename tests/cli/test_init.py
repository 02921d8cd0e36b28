"""`init`, the file that it writes, and where that is read."""

import os
import subprocess
import tomllib
from pathlib import Path

import pandas as pd
import pytest

from eb_dagster import ConfigError, Enricher
from tests.cli.shell import COMMAND, leads

LEADS = "Name,Work E-Mail,LinkedIn URL,Mobile\nAda,ada@firm.example,linkedin.com/in/ada-example,\nBo,bo@firm.example,,0170 5550145\n"


@pytest.mark.skipif(os.name != "posix", reason="a terminal of its own is POSIX")
def test_a_person_is_asked_what_cannot_be_known(stand_in, shell, tmp_path):
    import pexpect

    api = stand_in(match_rate=1.0)
    Path("leads.csv").write_text(LEADS)
    environment = {**os.environ, "EXACTBUYER_BASE_URL": api.url, "TERM": "dumb"}
    child = pexpect.spawn(
        COMMAND[0],
        [*COMMAND[1:], "init", "leads.csv"],
        env=environment,
        cwd=str(tmp_path),
        timeout=30,
        encoding="utf-8",
    )
    child.expect_exact("profile URLs (such as linkedin.com/in/…) [LinkedIn URL]: ")
    child.sendline("")
    child.expect_exact("e-mail addresses [Work E-Mail]: ")
    child.sendline("work email")
    child.expect_exact("no such column; did you mean 'Work E-Mail'?")
    child.sendline("Work E-Mail")
    child.expect_exact("phone numbers [Mobile]: ")
    child.sendline("")
    child.expect_exact("1 phone number among the first rows has no country code; they fit")
    child.sendline("Xanadu")
    child.expect_exact("that is not a country")
    child.sendline("de")
    for wrong in ("0,05", "inf"):
        child.expect_exact("Price of one credit")
        child.sendline(wrong)
        child.expect_exact("give a number such as 0.05")
    child.expect_exact("Price of one credit")
    child.sendline("0.05")
    child.expect_exact("[2]: ")
    child.sendline("1,5")
    child.expect_exact("give a whole number")
    child.expect_exact("[2]: ")
    child.sendline("1,005")
    child.expect_exact("written to exactbuyer.toml")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    said = tomllib.loads(Path("exactbuyer.toml").read_text())
    assert said == {
        "default_region": "DE", "price": 0.05, "max_credits": 1005,
        "identifiers": {"social_profile": ["LinkedIn URL"], "email": ["Work E-Mail"], "phone": ["Mobile"]},
    }  # fmt: skip
    # The tour of a new user: check, plan, enrich, all with the file.
    checked = shell(api, "doctor")
    assert checked.code == 0, checked.out
    planned = shell(api, "plan", "leads.csv")
    assert (
        f"settings from {Path.cwd() / 'exactbuyer.toml'} (default_region, price, max_credits, identifiers)"
        in planned.said
    )
    assert "0.10 (2 at 0.05)" in planned.out
    assert shell(api, "enrich", "leads.csv", "-o", "out.csv").code == 0
    assert pd.read_csv("out.csv")["eb_status"].tolist() == ["matched", "matched"]
    # An option comes before the file, whichever setting it is.
    capped = shell(api, "plan", "leads.csv", "--max-credits", "1", "--price", "2")
    assert "credits left: 1 for this run" in capped.said


def test_without_a_terminal_what_was_found_is_taken_and_nothing_is_guessed(stand_in, shell):
    api = stand_in()
    Path("leads.csv").write_text(LEADS)
    done = shell(api, "init", "leads.csv", "--yes", "--price", "0.1")
    assert done.code == 0, done.said
    assert "They are not used; to use them, name their country with --region" in done.said
    assert "e-mail addresses: Work E-Mail\nphone numbers: Mobile\n" in done.said
    assert tomllib.loads(Path("exactbuyer.toml").read_text())["price"] == 0.1
    Path("rounded.csv").write_text(LEADS + "Cy,cy@firm.example,,4.917E+11\n")
    rounded = shell(api, "init", "rounded.csv", "--yes", "--force").said
    assert "1 phone number among the first rows was rounded by a spreadsheet" in rounded
    assert "1 phone number among the first rows has no country code" in rounded
    assert shell(api, "init", "leads.csv").code == 2
    assert shell(api, "init", "leads.csv", "--force", "--region", "de").code == 0
    assert tomllib.loads(Path("exactbuyer.toml").read_text())["default_region"] == "DE"
    assert shell(api, "init", "leads.csv", "--config", "leads.csv", "--force").code == 2
    assert Path("leads.csv").read_text() == LEADS
    Path("none.csv").write_text("a,b\n1,2\n")
    refused = shell(api, "init", "none.csv", "--config", "other.toml")
    assert (refused.code, "no column of the file looks like identifiers" in refused.said) == (2, True)
    assert not Path("other.toml").exists()
    assert not Path("ledger.db").exists()


@pytest.mark.usefixtures("shell")
def test_option_comes_before_environment_and_that_before_the_file(stand_in, monkeypatch):
    api = stand_in(match_rate=1.0)
    leads(2)
    Path("conf").mkdir()
    Path("conf/mine.toml").write_text(
        f'ledger = "kept.db"\nbase_url = "{api.url}"\nmax_age_days = 90\ntimeout = 7.5\ncolumns = ["city"]\n'
    )

    def run(*words):
        return subprocess.run([*COMMAND, *words], capture_output=True, text=True, check=False)

    with_file = ("--config", "conf/mine.toml")
    # The environment names another ledger, which holds.
    done = run("plan", "leads.csv", *with_file, "--base-url", api.url)
    assert f"ledger: {Path.cwd() / 'ledger.db'}" in done.stderr
    monkeypatch.delenv("EB_DAGSTER_LEDGER")
    done = run("enrich", "leads.csv", "-o", "out.csv", *with_file)
    assert (done.returncode, f"ledger: {Path.cwd() / 'conf' / 'kept.db'}" in done.stderr) == (0, True), (
        done.stderr
    )
    assert list(pd.read_csv("out.csv").columns[-1:]) == ["eb_city"]
    done = run("ledger", "show", *with_file)
    assert (done.returncode, "credits" in done.stdout) == (0, True), done.stderr
    assert run("ledger", "show").returncode == 2
    with Enricher.from_config("conf/mine.toml", timeout=5.0) as enricher:
        assert enricher.config_file == Path.cwd() / "conf" / "mine.toml"
        assert enricher.plan(pd.read_csv("leads.csv")).matched_in_ledger == 2
    with pytest.raises(ConfigError, match=r"no exactbuyer\.toml in the working directory"):
        Enricher.from_config()


def test_a_file_of_settings_may_begin_with_the_mark_that_windows_writes(stand_in, shell):
    leads(5)
    Path("exactbuyer.toml").write_text("max_credits = 2\n", "utf-8-sig")
    api = stand_in(match_rate=1.0)
    shell(api, "enrich", "leads.csv", "-o", "out.csv", "--yes")
    assert api.credits() == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('api_key = "canary-1234567"', "a file never holds a key"),
        ('api-key = "canary-1234567"', "a file never holds a key"),
        ('password = "canary"', "a file never holds a key or a password"),
        ('ledger = "postgresql://me:canary@db.example/x"', "put the address into EB_DAGSTER_LEDGER instead"),
        ("max_credit = 5", "did you mean max_credits?"),
        ("max_credits = -1", "choose a number at least 0"),
        ("max_age_days = 0", "choose a number of days above 0"),
        ("price = -1", "give what one credit costs"),
        ('[identifiers]\nemial = "Email"', "did you mean email?"),
        ('email = "Email"', "choose from"),
        ('identifiers = "Email"', "write [identifiers] on a line of its own"),
        ("max_credits 5", "line 1: this is not TOML"),
    ],
)
def test_what_a_file_must_not_or_cannot_say_is_told_without_its_values(stand_in, shell, text, told):
    leads(1)
    Path("exactbuyer.toml").write_text(text + "\n")
    refused = shell(stand_in(), "plan", "leads.csv")
    assert (refused.code, told in refused.said) == (2, True), refused.said
    with pytest.raises(ConfigError, match=r"exactbuyer\.toml"):
        Enricher.from_config()


def test_the_doctor_says_what_to_mend_and_sends_no_key(stand_in, shell, monkeypatch):
    api = stand_in()
    monkeypatch.setenv("EB_DAGSTER_LEDGER", str(Path("new") / "ledger.db"))
    well = shell(api, "doctor")
    assert (well.code, well.out.count("✓")) == (0, 6), well.out
    assert f"✓ address: the sandbox at {api.url} answers" in well.out
    assert "! ledger: " in well.out
    assert not Path("new").exists()
    for key, told in [("", "✗ key: no API key"), ("your-api-key", "! key: "), ("ab cd", "holds a blank")]:
        monkeypatch.setenv("EXACTBUYER_API_KEY", key)
        assert told in shell(api, "doctor").out
    monkeypatch.setenv("EXACTBUYER_API_KEY", "canary-key")
    api_at_no_port = type("At", (), {"url": "http://127.0.0.1:9"})
    ill = shell(api_at_no_port, "doctor", "--ledger", "leads.csv")
    assert (ill.code, "✗ address: " in ill.out) == (1, True)
    Path("leads.csv").write_text("no ledger\n")
    ill = shell(api, "doctor", "--ledger", "leads.csv")
    assert (ill.code, "✗ ledger: " in ill.out, "1 thing to fix: ledger" in ill.out) == (1, True, True), (
        ill.out
    )
    assert api.requests() == 0
