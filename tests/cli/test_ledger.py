import json
from contextlib import closing

import click
import pandas as pd
import pytest
from click.testing import CliRunner

from eb_dagster import sandbox
from eb_dagster.cli import main
from eb_dagster.cli.ledger import ledger as ledger_commands
from eb_dagster.ledger.ledger import Ledger


def leads(count: int = 30) -> pd.DataFrame:
    return pd.DataFrame({"email": [f"p{number}@firm.example" for number in range(count)]})


@pytest.fixture
def call(where):
    def run(*arguments: str, stdin: str | bytes | None = None):
        return CliRunner().invoke(main, ["ledger", "--ledger", where, *arguments], input=stdin)

    return run


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """Run `eb-dagster ledger …` in a folder without a ledger."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EB_DAGSTER_LEDGER", str(tmp_path / "new.db"))
    return lambda *words, stdin=None: CliRunner().invoke(main, ["ledger", *words], input=stdin)


@pytest.fixture
def doubtful(stand_in, enricher, where):
    """A ledger in which ten people were bought and ten are in doubt."""
    api = stand_in(match_rate=1.0, faults=[sandbox.Fault("502", 2)])
    buyer = enricher(api, ledger=where, partition_size=10, max_credits_at_risk=10)
    buyer.enrich_dataframe(leads(20))
    buyer.close()
    return api


@pytest.mark.usefixtures("doubtful")
def test_show_tells_what_was_bought_and_what_is_in_doubt(call):
    shown = call("show")
    assert shown.exit_code == 0, shown.output
    assert "in doubt: up to 10 credits in 1 request" in shown.output
    assert "HTTP 502" in shown.output
    facts = json.loads(call("show", "--json").output)
    assert facts["months"][0]["credits"] == 10
    assert facts["doubts"][0]["at_risk"] == 10
    assert "firm.example" not in shown.output


@pytest.mark.parametrize(
    ("decision", "requests"), [("--resend", 1), ("--write-off", 0), ("--charged", 0)]
)  # fmt: skip
def test_resolve_lets_the_next_run_ask_again_or_not(doubtful, call, enricher, where, decision, requests):
    done = call("resolve", "2", decision)
    assert done.exit_code == 0, done.output
    assert "nothing is in doubt" in call("show").output
    buyer = enricher(doubtful, ledger=where)
    buyer.enrich_dataframe(leads(20))
    assert buyer.report.requests == requests
    assert call("check").output.startswith("no faults")


@pytest.mark.usefixtures("doubtful")
def test_resolve_wants_a_decision_and_requests(call):
    assert call("resolve", "2").exit_code == 2
    assert call("resolve", "--resend").exit_code == 2
    assert call("resolve", "99", "--resend").exit_code == 2
    assert call("resolve", "2", "--charged", "--resend").exit_code == 2
    assert call("resolve", "2", "--write-off", "--ask-again").exit_code == 2
    assert "in doubt: up to 10 credits" in call("show").output
    assert call("resolve", "--all", "--charged").output.startswith("10 identifiers of 1 request")


@pytest.mark.usefixtures("doubtful")
def test_what_was_charged_is_asked_again_if_that_is_said_and_told_to_be_paid_twice(call):
    done = call("resolve", "2", "--charged", "--ask-again")
    assert done.output == (
        "10 identifiers of 1 request count as charged, will be asked again, and may be paid twice\n"
    )
    assert call("check").output.startswith("no faults")


def test_a_reply_that_is_a_page_is_listed_and_decided_about(stand_in, enricher, where, call):
    api = stand_in(match_rate=1.0, faults=[sandbox.Fault("html", 1)])
    with pytest.warns(UserWarning, match="could not be read"):
        first = enricher(api, ledger=where).enrich_dataframe(leads(3))
    assert set(first["eb_status"]) == {"unreadable"}
    shown = call("show")
    assert "cannot be read: 3 identifiers in 1 request" in shown.output
    assert json.loads(call("show", "--json").output)["unreadable"][0]["at_risk"] == 3
    assert call("resolve", "--all", "--resend").output.startswith("3 identifiers of 1 request")
    assert "cannot be read" not in call("show").output
    enricher(api, ledger=where).enrich_dataframe(leads(3))
    assert api.requests() == 2


def test_a_backup_is_a_ledger_and_replaces_none(stand_in, enricher, tmp_path):
    api = stand_in(match_rate=1.0)
    enricher(api).enrich_dataframe(leads(3))
    words = ["ledger", "--ledger", str(tmp_path / "ledger.db"), "backup", str(tmp_path / "copy.db")]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    assert "the ledger was copied" in done.output
    assert CliRunner().invoke(main, words).exit_code == 2
    enricher(api, ledger=tmp_path / "copy.db").enrich_dataframe(leads(3))
    assert api.requests() == 1


def test_reread_reads_what_an_older_release_could_not(stand_in, enricher, where, call):
    import sqlalchemy as sa

    from eb_dagster.api.envelope import UNREADABLE
    from eb_dagster.ledger import schema
    from eb_dagster.ledger.entries import unpack_outcomes
    from eb_dagster.ledger.request_rows import rewrite_outcomes

    api = stand_in(match_rate=1.0)
    first = enricher(api, ledger=where).enrich_dataframe(leads())
    with closing(Ledger(where, endpoint="")) as ledger, ledger.database.transaction() as connection:
        # As if nothing in the reply had been understood.
        connection.execute(sa.update(schema.requests).values(state="unreadable", credits=0, unreadable=30))
        outcomes = unpack_outcomes(None, asked=30, default=UNREADABLE)
        rewrite_outcomes(connection, 1, outcomes, aliases=None)
    assert set(enricher(api, ledger=where).enrich_dataframe(leads())["eb_status"]) == {"unreadable"}
    done = call("reread")
    assert "1 reply read again: 30 more contacts, 0 identifiers" in done.output
    again = enricher(api, ledger=where)
    assert again.enrich_dataframe(leads())["eb_full_name"].equals(first["eb_full_name"])
    assert api.requests() == 1


@pytest.mark.usefixtures("doubtful")
def test_forget_takes_the_identifier_from_standard_input(call):
    done = call("forget", "-", stdin="P1@firm.example\n")
    assert done.exit_code == 0, done.output
    assert done.output.startswith("removed 1 contact from replies")
    assert "firm.example" not in done.output


@pytest.mark.usefixtures("doubtful")
def test_suppress_takes_people_back(call, tmp_path):
    (tmp_path / "people.txt").write_text("p1@firm.example\nP2@firm.example\n")
    call("suppress", str(tmp_path / "people.txt"))
    told = call("suppress", str(tmp_path / "people.txt"), "--remove").output
    assert told.startswith("2 people no longer suppressed, of 2")
    assert call("suppress", str(tmp_path / "people.txt")).output.startswith("2 people suppressed")


def test_suppress_reads_standard_input(call, doubtful, tmp_path, enricher, where):
    assert call("suppress", "-", stdin="p40@firm.example\n\nP41@firm.example\n").output.startswith("2 people")
    assert call("suppress", "-", stdin="Email,n\nP42@firm.example,1\n").output.startswith("1 person")
    pd.DataFrame({"email": ["p43@firm.example"]}).to_parquet(tmp_path / "people.parquet")
    with (tmp_path / "people.parquet").open("rb") as people:
        assert call("suppress", "-", stdin=people.read()).output.startswith("1 person")
    refused = call("suppress", "-", stdin="Email\np44@firm.example\ncanary\n")
    assert (refused.exit_code, "Nobody was suppressed" in refused.output) == (2, True)
    assert "canary" not in refused.output
    assert call("suppress", "-", stdin="").exit_code == 2
    assert call("suppress", "-", "--remove", stdin="p43@firm.example").output.startswith("1 person no longer")
    enriched = enricher(doubtful, ledger=where).enrich_dataframe(leads(45).iloc[39:])
    assert enriched["eb_status"].tolist() == ["matched", *["suppressed"] * 3, "matched", "matched"]


def test_suppress_reads_text_and_tables(call, doubtful, tmp_path, enricher, where):
    (tmp_path / "people.txt").write_text("p40@firm.example\n\np41@firm.example\n")
    (tmp_path / "people.csv").write_text("Email,n\nP42@firm.example,1\n")
    assert call("suppress", str(tmp_path / "people.txt")).output.startswith("2 people")
    assert call("suppress", str(tmp_path / "people.csv")).output.startswith("1 person")
    pd.DataFrame({"email": ["p41@firm.example", None]}).to_parquet(tmp_path / "people.parquet")
    assert call("suppress", str(tmp_path / "people.parquet")).output.startswith("0 people")
    (tmp_path / "other.csv").write_text("Company;n\nFirm;1\n")
    told = call("suppress", str(tmp_path / "other.csv"))
    assert (told.exit_code, "no identifier columns" in told.output) == (2, True)
    enriched = enricher(doubtful, ledger=where).enrich_dataframe(leads(43).iloc[39:])
    assert enriched["eb_status"].tolist() == ["matched", "suppressed", "suppressed", "suppressed"]


@pytest.mark.usefixtures("doubtful")
def test_forget_takes_several_people_at_once(call):
    done = call("forget", "P1@firm.example", "-", stdin="p2@firm.example\n\np3@firm.example\n")
    assert done.exit_code == 0, done.output
    assert done.output.startswith("removed 3 contacts from replies")
    assert "firm.example" not in done.output
    told = call("forget", "p4@firm.example", "p5@", "p6@firm.example")
    assert (told.exit_code, "1 (at 2, counted from 1)" in told.output) == (2, True)
    assert call("forget", "p4@firm.example").output.startswith("removed 1 contact ")
    assert call("forget", "-", stdin="\n").exit_code == 2


def test_forget_makes_no_ledger_for_what_is_no_identifier(fresh, tmp_path):
    told = fresh("forget", "773 474 9362")
    assert (told.exit_code, "--region" in told.output) == (2, True)
    assert not (tmp_path / "new.db").exists()


def test_forget_without_a_ledger_keeps_people_from_being_bought_and_says_so(fresh, stand_in, enricher):
    done = fresh("forget", "ada@firm.example", "bo@firm.example")
    assert done.exit_code == 0, done.output
    assert "new, empty ledger" in done.output
    assert "nothing is removed; 2 identifiers can no longer be bought" in done.output
    api = stand_in(match_rate=1.0)
    frame = pd.DataFrame({"email": ["ada@firm.example", "bo@firm.example"]})
    assert set(enricher(api, ledger="new.db").enrich_dataframe(frame)["eb_status"]) == {"suppressed"}
    assert api.requests() == 0


def test_a_file_and_an_identifier_that_were_mixed_up_are_told_without_repeating_them(fresh, tmp_path):
    (tmp_path / "people").write_text("ada@firm.example\n")
    for name in ("people", "people.csv", str(tmp_path / "people")):
        told = fresh("forget", name)
        assert (told.exit_code, "forget - < FILE" in told.output) == (2, True), name
    for identifier in ("ada@firm.example", "+17734749362", "linkedin.com/in/ada-example"):
        told = fresh("suppress", identifier)
        assert (told.exit_code, "FILE is an identifier" in told.output) == (2, True), identifier
        assert identifier not in told.output
    assert fresh("suppress", "nowhere.csv").exit_code == 2
    assert not (tmp_path / "new.db").exists()


@pytest.mark.parametrize(
    ("content", "options", "people"),
    [
        ("ada@firm.example\n+1 773 474 9362\nlinkedin.com/in/ada-example\n", (), 3),
        ("Unsubscribed\n\nEmail\nada@firm.example\n", (), 1),
        ("Who\nada@firm.example\nbo@firm.example\n", (), 2),
        ("Name;Work Email;Mobile\nAda;ada@firm.example;(773) 474-9362\n", ("--region", "US"), 2),
        ("Name;Work Email;Mobile\nAda;ada@firm.example;(773) 474-9362\n", ("--column", "Work Email"), 1),
        ("x\nName,Mail\nAda,ada@firm.example\n", ("--header-line", "2"), 1),
        ("field_type,value\nemail,ada@firm.example\nphone,+17734749362\n", (), 2),
        ('email\n"ada@firm.example, bo@firm.example"\nADA@firm.example\n', (), 2),
    ],
)
@pytest.mark.parametrize("name", ["optout.csv", "optout.txt"])
def test_people_are_found_in_opt_out_files(fresh, tmp_path, content, options, people, name):
    (tmp_path / name).write_text(content)
    done = fresh("suppress", name, *options)
    assert done.exit_code == 0, done.output
    suppressed = "1 person suppressed that was" if people == 1 else f"{people} people suppressed that were"
    assert done.output.endswith(f"{suppressed} not before, of {people}\n")


@pytest.mark.parametrize("content", ["email\nada@firm.example\nada@\n", 'email\nx\n"bo@firm.example; bo@"\n'])
def test_an_opt_out_that_cannot_be_read_is_never_passed_over(fresh, tmp_path, content):
    (tmp_path / "optout.csv").write_text(content)
    told = fresh("suppress", "optout.csv")
    assert (told.exit_code, "Nobody was suppressed" in told.output) == (2, True)
    assert "2, counted from 1 below the header" in told.output
    pd.DataFrame({"phone": [17734749362]}).to_parquet(tmp_path / "optout.parquet")
    assert "values that are not text" in fresh("suppress", "optout.parquet").output


@pytest.mark.usefixtures("doubtful")
def test_an_export_replaces_its_own_receipts_only(call, tmp_path):
    target = str(tmp_path / "receipts.parquet")
    for _ in range(2):
        assert call("export", "-o", target).exit_code == 0
    leads(1).to_parquet(target)
    refused = call("export", "-o", target)
    assert (refused.exit_code, "--force" in refused.output) == (2, True)
    assert list(pd.read_parquet(target)) == ["email"]
    assert call("export", "-o", target, "--force").exit_code == 0


@pytest.mark.parametrize("name", ["receipts.csv", "receipts.xlsx", "receipts", "receipts.parquet.gz"])
def test_an_export_is_never_called_what_it_is_not(call, doubtful, tmp_path, name):
    del doubtful
    refused = call("export", "-o", str(tmp_path / name), "--force")
    assert (refused.exit_code, "choose a name that ends in .parquet" in refused.output) == (2, True)
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("words", [[], ["--force"]])
def test_an_export_never_replaces_a_table_of_contacts(stand_in, enricher, where, call, tmp_path, words):
    leads(3).to_parquet(tmp_path / "leads.parquet", index=False)
    with enricher(stand_in(match_rate=1.0), ledger=where) as buyer:
        buyer.enrich_parquet(tmp_path / "leads.parquet", tmp_path / "out.parquet")
    refused = call("export", "-o", str(tmp_path / "out.parquet"), *words)
    assert (refused.exit_code, "it is a table that this ledger published" in refused.output) == (2, True)
    assert "--force" not in refused.output
    assert "eb_matched" in pd.read_parquet(tmp_path / "out.parquet")
    # Once the table is moved away, the name is free.
    (tmp_path / "out.parquet").rename(tmp_path / "contacts.parquet")
    for _ in range(2):
        assert call("export", "-o", str(tmp_path / "out.parquet"), *words).exit_code == 0


@pytest.mark.parametrize("name", ["ledger.db", "./ledger.db", "ledger.db-wal", "link.parquet"])
def test_an_export_never_writes_over_the_ledger(stand_in, enricher, fresh, tmp_path, monkeypatch, name):
    monkeypatch.setenv("EB_DAGSTER_LEDGER", str(tmp_path / "ledger.db"))
    enricher(stand_in(), ledger="ledger.db").enrich_dataframe(leads(2))
    (tmp_path / "link.parquet").symlink_to("ledger.db")
    refused = fresh("export", "-o", name, "--force")
    assert (refused.exit_code, "cannot write" in refused.output) == (2, True)
    assert fresh("check").output.startswith("no faults")


@pytest.mark.usefixtures("doubtful")
def test_receipts_are_exported(call, tmp_path):
    done = call("export", "-o", str(tmp_path / "receipts.parquet"))
    assert done.output.startswith("2 receipts")
    assert len(pd.read_parquet(tmp_path / "receipts.parquet")) == 2


def test_a_cap_holds_until_it_is_lifted(stand_in, enricher, where, call):
    api = stand_in(match_rate=1.0)
    enricher(api, ledger=where).enrich_dataframe(leads(1))
    assert "day: 5 credits" in call("cap", "--daily", "5").output
    buyer = enricher(api, ledger=where)
    with pytest.warns(UserWarning, match="daily cap"):
        enriched = buyer.enrich_dataframe(leads(20))
    assert api.credits() == 5
    assert (enriched["eb_status"] == "not_asked").sum() == 15
    call("cap", "--lift")
    enricher(api, ledger=where).enrich_dataframe(leads(20))
    assert api.credits() == 20


@pytest.mark.usefixtures("doubtful")
def test_purge_drops_what_is_old(call):
    assert "of 0 requests" in call("purge", "--older-than", "30").output


@pytest.mark.usefixtures("doubtful")
@pytest.mark.parametrize(
    "words",
    [
        ("purge", "--older-than", "9" * 25),
        ("purge", "--older-than", "9" * 10),
        ("resolve", "9" * 25, "--resend"),
        ("resolve", "0", "--resend"),
    ],
)
def test_a_number_that_can_be_no_days_and_no_request_is_refused(call, words):
    done = call(*words)
    assert (done.exit_code, "not in the range" in done.output) == (2, True), done.output


@pytest.mark.usefixtures("doubtful")
def test_check_finds_a_fault_and_exits_1(call, where):
    import sqlalchemy as sa

    from eb_dagster.ledger import schema

    with closing(Ledger(where, endpoint="")) as ledger, ledger.database.transaction() as connection:
        connection.execute(sa.update(schema.requests).values(credits=7))
    done = call("check")
    assert done.exit_code == 1
    assert "it notes 7 credits for 10 contacts" in done.output


@pytest.mark.usefixtures("doubtful")
def test_the_ledger_is_named_before_the_command_or_after_it_or_both(where):
    def shown(*words: str) -> str:
        done = CliRunner().invoke(main, ["ledger", *words])
        assert done.exit_code == 0, done.output
        return done.output

    assert shown("show", "--ledger", where) == shown("--ledger", where, "show")
    assert shown("--ledger", where, "check", "--ledger", where).startswith("no faults")
    assert shown("resolve", "2", "--write-off", "--ledger", where).startswith("10 identifiers")


# `copy` names two ledgers, and neither is the one of the environment.
@pytest.mark.parametrize("name", sorted(ledger_commands.commands.keys() - {"copy"}))
def test_every_command_of_the_ledger_takes_its_name_and_says_so(name):
    command = ledger_commands.commands[name]
    assert "--ledger" in CliRunner().invoke(main, ["ledger", name, "--help"]).output
    needed = ["2" for param in command.params if isinstance(param, click.Argument) and param.required]
    contradicted = CliRunner().invoke(main, ["ledger", "--ledger", "a.db", name, "--ledger", "b.db", *needed])
    assert contradicted.exit_code == 2
    assert "--ledger names one ledger before the command and another after it" in contradicted.output
    # An address may hold a password.
    assert "a.db" not in contradicted.output


def test_a_ledger_that_is_not_there_is_not_made(tmp_path):
    done = CliRunner().invoke(main, ["ledger", "--ledger", str(tmp_path / "no.db"), "show"])
    assert done.exit_code == 2
    assert "there is no ledger no.db" in done.output
    assert not (tmp_path / "no.db").exists()
    unnamed = CliRunner().invoke(main, ["ledger", "show"], env={"EB_DAGSTER_LEDGER": ""})
    assert (unnamed.exit_code, "EB_DAGSTER_LEDGER is empty" in unnamed.output) == (2, True)


def test_a_ledger_that_nobody_named_is_found_where_it_was_made(
    stand_in, enricher, tmp_path, monkeypatch, capsys
):
    monkeypatch.delenv("EB_DAGSTER_LEDGER", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    made = tmp_path / "data" / "eb_dagster" / "ledger.db"
    with pytest.raises(SystemExit) as ended:
        main(["ledger", "show"])
    assert (ended.value.code, capsys.readouterr().err.splitlines()[0]) == (2, f"ledger: {made}")
    assert not made.exists()
    enricher(stand_in(match_rate=1.0), ledger=None).enrich_dataframe(leads(3))
    with pytest.raises(SystemExit):
        main(["ledger", "show", "--json"])
    shown = capsys.readouterr()
    assert shown.err == f"ledger: {made}\n"
    assert json.loads(shown.out)["months"][0]["credits"] == 3


@pytest.mark.usefixtures("doubtful")
def test_copy_moves_the_ledger_and_names_no_address_of_a_database(call, where, tmp_path, postgresql):
    target = str(tmp_path / "copy.db") if "://" in where else postgresql.new_database()
    copied = CliRunner().invoke(main, ["ledger", "copy", where, target])
    assert copied.exit_code == 0, copied.output
    assert "copied with 2 requests" in copied.output
    assert "://" not in copied.output
    assert call("check").exit_code == 2
    assert CliRunner().invoke(main, ["ledger", "--ledger", target, "check"]).exit_code == 0


@pytest.mark.usefixtures("doubtful")
def test_purge_drops_kept_columns_alone_and_wants_to_know_what_to_drop(call):
    assert call("purge", "--kept-columns").output == "the kept columns of 1 request were dropped\n"
    assert "--older-than DAYS, or --kept-columns" in call("purge").output
