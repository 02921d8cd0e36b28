import csv
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import click
import pandas as pd
import pytest
import sqlalchemy as sa

from eb_dagster.cli.commands import main
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.pipeline.progress import Forecast, shell_display, shell_words
from eb_dagster.pipeline.report import Report
from eb_dagster.sandbox import Fault

COMMAND = [sys.executable, "-c", "from eb_dagster.cli import main; main(prog_name='eb-dagster')"]
CANARY = "canary@firm.example"


@dataclass
class Ran:
    code: int
    out: str
    said: str

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def shell(tmp_path, monkeypatch, capsys):
    """Run `eb-dagster …` in a folder of its own, against the sandbox that is given."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXACTBUYER_API_KEY", "canary-key")
    monkeypatch.setenv("EB_DAGSTER_LEDGER", str(tmp_path / "ledger.db"))

    def run(api, *arguments: str) -> Ran:
        monkeypatch.setenv("EXACTBUYER_BASE_URL", api.url)
        with pytest.raises(SystemExit) as ended:
            main([*arguments], prog_name="eb-dagster")
        told = capsys.readouterr()
        assert "canary" not in told.out + told.err
        return Ran(int(ended.value.code or 0), told.out, told.err)

    return run


def leads(count: int, *, name: str = "leads.csv") -> None:
    lines = [f"p{at}@firm.example,{at:03}" for at in range(count)]
    Path(name).write_text("\n".join(["Email,n", *lines, ""]))


# The ways in and out


@pytest.mark.parametrize("source", ["leads.csv", "leads.parquet"])
@pytest.mark.parametrize("target", ["out.csv", "out.tsv", "out.txt", "out.parquet"])
def test_every_form_goes_in_and_out(stand_in, shell, source, target):
    leads(3)
    pd.read_csv("leads.csv", dtype=str).to_parquet("leads.parquet")
    done = shell(stand_in(match_rate=1.0), "enrich", source, "-o", target)
    assert done.code == 0, done.said
    assert f"written to {target}" in done.out
    made = (
        pd.read_parquet(target)
        if target.endswith("parquet")
        else pd.read_csv(target, dtype=str, sep="," if target.endswith("csv") else "\t")
    )
    assert made["n"].tolist() == ["000", "001", "002"]
    assert made["eb_query"].tolist() == ["p0@firm.example", "p1@firm.example", "p2@firm.example"]
    assert made["eb_full_name"].notna().all()


def test_a_proxy_with_a_password_on_the_command_line_is_refused_and_one_without_is_not(stand_in, shell):
    api = stand_in(match_rate=1.0)
    leads(3)
    refused = shell(
        api, "enrich", "leads.csv", "-o", "out.csv", "--proxy", "http://me:canary@proxy.example:80"
    )
    assert refused.code == 2
    assert "EB_DAGSTER_PROXY" in refused.said
    odd = shell(api, "enrich", "leads.csv", "-o", "out.csv", "--proxy", "canary.example")
    assert (odd.code, "http://host:port" in odd.said) == (2, True)
    none = shell(api, "enrich", "leads.csv", "-o", "out.csv", "--ca-bundle", "nowhere.pem")
    assert (none.code, "--ca-bundle" in none.said) == (2, True)
    assert api.requests() == 0
    done = shell(api, "enrich", "leads.csv", "-o", "out.csv", "--proxy", "http://127.0.0.1:9")
    assert done.code == 0, done.said


def test_a_second_run_costs_nothing(stand_in, shell):
    api = stand_in(match_rate=1.0)
    leads(5)
    shell(api, "enrich", "leads.csv", "-o", "out.csv")
    first = Path("out.csv").read_text()
    again = shell(api, "enrich", "leads.csv", "-o", "out.csv", "--json")
    assert again.json["report"]["credits_charged"] == 0
    assert Path("out.csv").read_text() == first.replace(",false,", ",true,")
    assert api.requests() == 1


def test_formulas_of_ours_are_text_whatever_the_prefix_and_lists_are_json(stand_in, shell):
    lines = [f"p{at}@firm.example,=1+{at}" for at in range(60)]
    Path("leads.csv").write_text("\n".join(["email,+sum", *lines, ""]))
    done = shell(stand_in(match_rate=1.0), "enrich", "leads.csv", "-o", "out.csv", "--prefix", "bought_")
    assert done.code == 0
    made = pd.read_csv("out.csv", dtype=str, keep_default_na=False)
    assert made["+sum"].tolist() == [f"=1+{at}" for at in range(60)]
    ours = [name for name in made.columns if name.startswith("bought_")]
    assert len(ours) > 30
    phones = [phone for phone in made["bought_phone"] if phone]
    assert phones
    assert all(phone.startswith("'+") for phone in phones)
    assert not made[ours].map(lambda cell: cell.startswith(("=", "+", "-", "@"))).any(axis=None)
    assert {type(json.loads(cell)) for cell in made["bought_emails"] if cell} == {list}
    assert isinstance(json.loads(made["bought_social_profiles"].max())[0]["network"], str)


def test_columns_and_required_fields_are_chosen_with_commas_or_one_by_one(stand_in, shell):
    leads(30)
    named = ("--columns", "full_name, work_email", "--columns", "city", "--required", "work_email,phone")
    done = shell(stand_in(), "enrich", "leads.csv", "-o", "out.csv", "--json", *named)
    assert done.code == 0
    made = pd.read_csv("out.csv", dtype=str)
    assert list(made.columns[-3:]) == ["eb_full_name", "eb_work_email", "eb_city"]
    assert made.loc[made["eb_status"] == "matched", "eb_work_email"].notna().all()
    wrong = shell(stand_in(), "enrich", "leads.csv", "-o", "out.csv", "--columns", "nonsense")
    assert (wrong.code, wrong.out) == (2, "")
    assert "--columns: ['nonsense'] not known; choose from" in wrong.said
    prefixed = ("--columns", "eb_full_name,eb_status", "--columns", "eb_city")
    assert shell(stand_in(), "enrich", "leads.csv", "-o", "out.csv", *prefixed).code == 0
    assert list(pd.read_csv("out.csv").columns[-2:]) == ["eb_full_name", "eb_city"]


def test_columns_of_one_name_pass_through_text_but_not_to_parquet(stand_in, shell):
    Path("leads.csv").write_text("email,x,x\na@firm.example,1,2\n")
    api = stand_in(match_rate=1.0)
    assert shell(api, "enrich", "leads.csv", "-o", "out.csv").code == 0
    with Path("out.csv").open(newline="") as made:
        assert next(csv.reader(made))[:3] == ["email", "x", "x"]
    refused = shell(api, "enrich", "leads.csv", "-o", "out.parquet")
    assert refused.code == 2
    assert "more than one column is called ['x']" in refused.said


# What it tells


def test_a_plan_is_a_table_with_its_price(stand_in, shell):
    api = stand_in()
    leads(1200)
    planned = shell(api, "plan", "leads.csv", "--price", "0.05")
    assert planned.code == 0
    lines = dict(line.split("  ", 1) for line in planned.out.splitlines())
    assert lines["costs at most"].strip() == "60.00 (1,200 at 0.05)"
    assert lines["requests"].split() == ["2"]
    # The numbers stand below each other.
    assert (
        len(
            {
                line.index(number) + len(number)
                for line in planned.out.splitlines()
                for number in ["1,200"]
                if line.endswith(number)
            }
        )
        == 1
    )
    capped = shell(api, "plan", "leads.csv", "--price", "0.05", "--max-credits", "100")
    assert "5.00 (100 at 0.05)" in capped.out
    assert api.requests() == 0


def test_json_is_alone_on_stdout(stand_in, shell):
    api = stand_in(match_rate=1.0)
    leads(3)
    planned = shell(api, "plan", "leads.csv", "--json", "--price", "2")
    assert planned.json["plan"]["to_ask"] == 3
    assert planned.json["plan"]["cost_at_most"] == 6
    done = shell(api, "enrich", "leads.csv", "-o", "out.csv", "--json", "--price", "2")
    assert done.json["plan"] == planned.json["plan"]
    assert done.json["report"]["matched_by"] == {"email": 3}
    assert done.json["report"]["cost"] == 6
    assert done.json["output"] == "out.csv"
    failed = shell(api, "enrich", "missing.csv", "-o", "out.csv", "--json")
    assert failed.code == 2
    assert failed.json == {
        "error": {
            "type": "InputError",
            "message": "there is no file missing.csv; check the path. Nothing was sent",
        }
    }


def test_columns_that_are_not_recognized_are_listed_with_the_options_that_name_them(stand_in, shell):
    api = stand_in()
    Path("leads.csv").write_text(
        f"Name,E-Mail Address,Cell $,Opt-in email date\nx,{CANARY},(773) 474-9362,2\n"
    )
    refused = shell(api, "enrich", "leads.csv", "-o", "out.csv")
    assert (refused.code, refused.out) == (2, "")
    assert "there are 'Name', 'E-Mail Address', 'Cell $', 'Opt-in email date'" in refused.said
    assert """as in --email "E-Mail Address" --phone 'Cell $' (there""" in refused.said
    Path("leads.csv").write_text("a,b\n1,2\n")
    assert "--social-profile … --email … --phone … (there" in shell(api, "plan", "leads.csv").said
    assert api.requests() == 0


@pytest.mark.parametrize("command", [("plan", "leads.csv"), ("enrich", "leads.csv", "-o", "out.csv")])
def test_phones_without_a_country_code_are_counted_also_where_another_identifier_is_fine(
    stand_in, shell, command
):
    lines = [f"p{at}@firm.example,0170 55501{at:02}" for at in range(26)]
    Path("leads.csv").write_text("\n".join(["email,phone", *lines, ""]))
    api = stand_in(match_rate=1.0)
    done = shell(api, *command)
    told = dict(line.rsplit("  ", 1) for line in done.out.splitlines() if "  " in line)
    told = {name.strip(): value.strip() for name, value in told.items()}
    assert told["phone number without a country code"] == "26 (give --region)"
    assert told["rows without a usable identifier"] == "0"
    note = "26 rows have phone numbers without a country code, which cannot be used: give --region"
    assert done.said.splitlines().count(note) == 1
    placed = shell(api, *command, "--region", "DE")
    assert "--region" not in placed.said + placed.out
    as_json = shell(api, *command, "--json").json
    assert as_json["plan"]["unusable"] == {"phone_no_region": 26}


def test_a_plan_reckons_with_the_caps_of_the_ledger(stand_in, shell):
    api = stand_in(match_rate=1.0)
    leads(10)
    assert "by the cap" not in shell(api, "plan", "leads.csv").out
    shell(api, "ledger", "cap", "--daily", "8", "--monthly", "1000")
    shell(api, "enrich", "leads.csv", "-o", "out.csv", "--max-credits", "3")
    planned = shell(api, "plan", "leads.csv", "--price", "0.5")
    told = {name: value.strip() for name, value in (line.split("  ", 1) for line in planned.out.splitlines())}
    assert told["credits left today by the cap"] == "5"
    assert told["credits left this month by the cap"] == "997"
    assert told["credits at most"] == "7"
    assert told["costs at most"] == "2.50 (5 at 0.5)"
    assert shell(api, "plan", "leads.csv", "--price", "0.5", "--json").json["plan"]["cost_at_most"] == 2.5


def test_an_unknown_column_is_told_with_those_there_are(stand_in, shell):
    leads(1)
    refused = shell(stand_in(), "plan", "leads.csv", "--email", "Emial")
    assert refused.code == 2
    assert "no column 'Emial'; there are 'Email', 'n'" in refused.said


def test_a_line_tells_how_far_it_is_where_there_is_no_terminal(stand_in, shell):
    leads(30)
    done = shell(stand_in(match_rate=1.0), "enrich", "leads.csv", "-o", "out.csv")
    assert done.said.splitlines()[-1] == "100%  1 request, 30 credits, 100.0% found"


def test_the_page_has_plots_and_no_people(stand_in, shell):
    Path("leads.csv").write_text(f"email\n{CANARY}\n")
    done = shell(stand_in(match_rate=1.0), "enrich", "leads.csv", "-o", "out.csv", "--report", "report.html")
    assert done.code == 0
    page = Path("report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 4
    assert "canary" not in page
    name = pd.read_csv("out.csv")["eb_last_name"][0]
    assert name not in page


def test_a_new_ledger_is_told_of_once(stand_in, shell):
    leads(1)
    api = stand_in()
    assert "  new, empty ledger typo.db\n" in shell(api, "plan", "leads.csv", "--ledger", "typo.db").said
    assert "empty ledger" not in shell(api, "plan", "leads.csv", "--ledger", "typo.db").said
    named = shell(api, "enrich", "leads.csv", "-o", "out.csv")
    assert f"  new, empty ledger {Path.cwd() / 'ledger.db'}\n" in named.said
    assert "empty ledger" not in shell(api, "enrich", "leads.csv", "-o", "out.csv").said


def test_a_plan_needs_no_key(stand_in, shell, monkeypatch):
    leads(2)
    api = stand_in()
    monkeypatch.setenv("EXACTBUYER_API_KEY", " ")
    assert shell(api, "plan", "leads.csv").code == 0
    refused = shell(api, "enrich", "leads.csv", "-o", "out.csv")
    assert refused.code == 2
    assert refused.said.splitlines()[-1] == (
        "ConfigError: no API key: set EXACTBUYER_API_KEY. Nothing was sent"
    )
    assert api.requests() == 0


def test_an_error_names_the_options_and_not_what_python_calls_them(stand_in, shell):
    leads(10)
    api = stand_in()
    enrich = ("enrich", "leads.csv", "-o", "out.csv")
    refused = shell(api, *enrich, "--max-credits", "4", "--over-budget", "refuse")
    assert "10 credits, --max-credits is 4. Raise it" in refused.said
    assert 'or choose --over-budget "stop"' in refused.said
    assert "--region is no country" in shell(api, "plan", "leads.csv", "--region", "XX").said
    Path("leads.csv").write_text("email,eb_status\na@firm.example,1\n")
    assert "choose another --prefix" in shell(api, *enrich).said
    assert "--base-url or EXACTBUYER_BASE_URL has" in shell(api, *enrich, "--base-url", "ftp://a").said


def test_what_cannot_be_a_ledger_or_a_target_is_told_as_what_it_is(stand_in, shell):
    api = stand_in()
    leads(2)
    Path("adir").mkdir()
    Path("crm.csv").write_text("email\n")
    assert (
        "the ledger adir is a folder; name a file in it"
        in shell(api, "plan", "leads.csv", "--ledger", "adir").said
    )
    other = shell(api, "plan", "leads.csv", "--ledger", "crm.csv")
    assert "crm.csv is no ledger, but a file of another kind" in other.said
    assert Path("crm.csv").read_text() == "email\n"
    for folder in (".", "adir", "adir/"):
        refused = shell(api, "enrich", "leads.csv", "-o", folder)
        assert (refused.code, refused.out) == (2, "")
        assert f"cannot write {Path(folder)}: it is a folder; name a file in it, such as " in refused.said
    assert "is a folder" in shell(api, "plan", "adir").said
    assert api.requests() == 0


def test_it_says_where_everything_was_written(stand_in, shell):
    leads(2)
    for folder in ("new", "pages"):
        Path(folder).mkdir()
    done = shell(stand_in(), "enrich", "leads.csv", "-o", "new/out.csv", "--report", "pages/report.html")
    assert done.out.splitlines()[-2:] == ["written to new/out.csv", "report written to pages/report.html"]


def test_the_words_beside_the_bar_leave_room_for_it_on_80_columns():
    for asked, seconds in ((1_000, 5), (1_000_000, 300), (10_000_000, 3_000)):
        forecast = Forecast(asked)
        for done in (0.3, 0.5):
            now = time.monotonic() - seconds * (1 - done)
            rows, found = round(asked * done), round(asked * done * 0.7)
            report = Report(rows=rows, replies=rows // 1000, answers=rows, credits_charged=found)
            forecast.note(report, now=now)
        words = shell_words(forecast, report, now=time.monotonic(), is_short=True)
        assert " left" in words
        assert len(f"100% |{'#' * 10}| {words} [1:00:00]") <= 80, words


def test_nothing_is_said_twice_where_there_is_no_terminal(capsys):
    report = Report(rows=30, replies=1, answers=30, credits_charged=30)
    with shell_display(30, max_credits=None, say=lambda line: click.echo(line, err=True)) as bar:
        bar(report)
        bar(report)
    assert capsys.readouterr().err == "100%  1 request, 30 credits, 100.0% found\n"


@pytest.mark.skipif(os.name != "posix", reason="another platform lets two listen on one port")
def test_a_port_that_is_taken_is_told_with_what_to_do(stand_in, shell):
    api = stand_in()
    port = api.url.rpartition(":")[2]
    refused = shell(api, "sandbox", "--port", port)
    assert refused.code == 2
    assert f"port {port} is taken, most likely by a sandbox that runs already" in refused.said
    assert "choose another --port" in refused.said


# Exit codes


def test_bad_targets_are_refused_before_anything_is_sent(stand_in, shell):
    api = stand_in()
    leads(2)
    Path("file").write_text("")
    for output in ("leads.csv", "out.xlsx", "file/out.csv", "file/out.parquet"):
        refused = shell(api, "enrich", "leads.csv", "-o", output)
        assert (refused.code, refused.out) == (2, ""), output
    same = shell(api, "enrich", "leads.csv", "-o", "out.csv", "--report", "out.csv")
    assert same.code == 2
    assert api.requests() == 0


def test_a_fault_late_in_the_file_is_found_before_anything_is_sent(stand_in, shell):
    api = stand_in()
    leads(20_000)
    with Path("leads.csv").open("a") as file:
        file.write("x@firm.example,1,2\n")
    refused = shell(api, "enrich", "leads.csv", "-o", "out.csv")
    assert refused.code == 2
    assert "line 20002: 3 cells" in refused.said
    assert api.requests() == 0


def test_a_run_that_is_stopped_tells_what_it_spent_and_is_finished_by_the_next(stand_in, shell):
    leads(1500)
    short = stand_in(match_rate=1.0, credits=1200)
    stopped = shell(
        short, "enrich", "leads.csv", "-o", "out.csv", "--price", "1", "--report", "report.html",
        "--requests-per-minute", "200",
    )  # fmt: skip
    assert stopped.code == 1
    assert "Refused: the API refused with HTTP 403" in stopped.said
    assert "1,000.00 (1,000 at 1)" in stopped.out
    assert Path("report.html").exists()
    assert not Path("out.csv").exists()


def test_rows_without_an_answer_are_exit_3(stand_in, shell):
    leads(10)
    capped = shell(stand_in(match_rate=1.0), "enrich", "leads.csv", "-o", "out.csv", "--max-credits", "4")
    assert capped.code == 3
    assert pd.read_csv("out.csv")["eb_status"].value_counts().to_dict() == {"not_asked": 6, "matched": 4}


def test_more_than_the_cap_is_refused_if_so_chosen(stand_in, shell):
    api = stand_in()
    leads(10)
    refused = shell(
        api, "enrich", "leads.csv", "-o", "out.csv", "--max-credits", "4", "--over-budget", "refuse"
    )
    assert refused.code == 2
    assert "OverBudget: this may cost 10 credits" in refused.said
    assert api.requests() == 0


def test_what_is_in_doubt_is_held_until_it_is_sent_again_by_choice(stand_in, shell):
    api = stand_in(match_rate=1.0, faults=[Fault("reset-after", 1)])
    leads(3)
    held = shell(api, "enrich", "leads.csv", "-o", "out.csv")
    assert held.code == 3
    assert shell(api, "enrich", "leads.csv", "-o", "out.csv").code == 3
    assert api.requests() == 1
    assert shell(api, "enrich", "leads.csv", "-o", "out.csv", "--in-doubt", "resend").code == 0


def test_a_wrong_option_is_a_usage_error(stand_in, shell):
    api = stand_in()
    leads(1)
    for wrong in (
        ["--separator", "colon"],
        ["--price", "-1"],
        ["--max-age-days", "0"],
        ["--max-age", "90"],
        ["--over-budget", "x"],
    ):
        assert shell(api, "plan", "leads.csv", *wrong).code == 2
    assert shell(api, "sandbox", "--fault", "nonsense").code == 2


# On a terminal


@pytest.fixture
def terminal(tmp_path, shell):
    """Run `eb-dagster …` on a terminal of its own and answer its question."""
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    # It gives the folder, the key and the ledger.
    del shell

    def run(api, *arguments: str, answer: str = "", columns: int = 120, **pipes: int) -> tuple[int, str]:
        ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (40, columns))
        environment = {**os.environ, "EXACTBUYER_BASE_URL": api.url}
        streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs, **pipes}
        process = subprocess.Popen([*COMMAND, *arguments], env=environment, cwd=tmp_path, **streams)
        os.close(theirs)
        shown = b""
        while True:
            try:
                piece = os.read(ours, 65_536)
            except OSError:
                # So Linux says that nobody has the terminal open any more.
                piece = b""
            if not piece:
                break
            shown += piece
            if answer and b"[y/N]" in shown:
                os.write(ours, f"{answer}\n".encode())
                answer = ""
        os.close(ours)
        return process.wait(60), shown.decode()

    return run


def test_a_person_is_asked_above_the_threshold(stand_in, terminal):
    api = stand_in(match_rate=1.0)
    leads(20)
    asking = ("enrich", "leads.csv", "-o", "out.csv", "--confirm-above", "19", "--price", "0.5")
    code, shown = terminal(api, *asking, answer="n")
    assert "This buys up to 20 contacts, 10.00 (20 at 0.5). Go on? [y/N]" in shown
    assert code == 2
    assert "Nothing was sent" in shown
    assert api.requests() == 0
    code, shown = terminal(api, *asking, answer="y")
    assert code == 0
    assert api.requests() == 1
    # A live bar, which made way for the report.
    assert "100% |" in shown
    assert "1 request, 20 credits, 100.0% found" in shown
    assert "written to out.csv" in shown


def test_a_terminal_of_80_columns_shows_the_whole_line_with_a_bar(stand_in, terminal):
    leads(20)
    _, shown = terminal(stand_in(match_rate=1.0), "enrich", "leads.csv", "-o", "out.csv", columns=80)
    frames = [frame for frame in re.split(r"[\r\n]", shown) if "20 credits" in frame and "% |" in frame]
    assert frames
    for frame in frames:
        assert re.fullmatch(
            r" *\d+% \|.{10,}\| 1 request, 20 credits, 100\.0% found(?:, \d+ s left)? \[\d\d:\d\d\] *", frame
        ), frame
        assert len(frame) <= 80


@pytest.mark.parametrize(
    "more",
    [
        ["--confirm-above", "20"],
        ["--confirm-above", "0", "--yes"],
        ["--confirm-above", "0", "--max-credits", "0"],
    ],
)
def test_nobody_is_asked_below_the_threshold_or_with_yes(stand_in, terminal, more):
    leads(20)
    code, shown = terminal(stand_in(), "enrich", "leads.csv", "-o", "out.csv", *more, answer="n")
    assert "[y/N]" not in shown
    assert code in (0, 3)


@pytest.mark.parametrize("stream", ["stdin", "stdout"])
def test_nobody_is_asked_without_a_terminal(stand_in, terminal, stream):
    leads(20)
    code, shown = terminal(
        stand_in(), "enrich", "leads.csv", "-o", "out.csv", "--confirm-above", "0",
        answer="n", **{stream: subprocess.DEVNULL},
    )  # fmt: skip
    assert "[y/N]" not in shown
    assert code == 0


# What is written over


FOREIGN = {"out.csv": "mine", "out.tsv": "mine", "out.parquet": None, "page.html": "<p>mine</p>"}


@pytest.mark.parametrize("target", FOREIGN)
def test_a_file_that_the_ledger_does_not_know_is_replaced_by_force_only(stand_in, shell, target):
    api = stand_in(match_rate=1.0)
    leads(2)
    if (text := FOREIGN[target]) is None:
        pd.DataFrame({"mine": [1]}).to_parquet(target)
    else:
        Path(target).write_text(text)
    before = Path(target).read_bytes()
    writing = ("-o", target) if target.startswith("out") else ("-o", "new.csv", "--report", target)
    # Asking nothing is not the same as replacing.
    for more in ((), ("--yes",)):
        refused = shell(api, "enrich", "leads.csv", *writing, *more)
        assert refused.code == 2
        assert f"{target} is there, and this ledger did not write it" in refused.said
        assert "--force" in refused.said
    assert Path(target).read_bytes() == before
    assert api.requests() == 0
    assert not Path("ledger.db").exists()
    assert shell(api, "enrich", "leads.csv", *writing, "--force").code == 0
    assert Path(target).read_bytes() != before


@pytest.mark.parametrize("output", ["out.csv", "out.parquet"])
def test_the_second_morning_of_a_schedule_replaces_what_the_first_wrote(stand_in, shell, output):
    api = stand_in(match_rate=1.0)
    leads(2)
    for count in (2, 3):
        leads(count)
        done = shell(api, "enrich", "leads.csv", "-o", output, "--report", "report.html")
        assert done.code == 0, done.said
    made = pd.read_csv(output) if output.endswith("csv") else pd.read_parquet(output)
    assert len(made) == 3
    assert oct(Path("report.html").stat().st_mode & 0o777) == "0o600"
    # Of another ledger it is not the own.
    refused = shell(api, "enrich", "leads.csv", "-o", output, "--ledger", "other.db")
    assert (refused.code, "this ledger did not write it" in refused.said) == (2, True)


def test_a_csv_is_noted_as_published(stand_in, shell):
    leads(2)
    assert shell(stand_in(), "enrich", "leads.csv", "-o", "out.csv").code == 0
    with closing(Ledger("ledger.db", endpoint="")) as ledger:
        assert ledger.has_published(str(Path("out.csv").resolve()))
        assert not ledger.has_published(str(Path("leads.csv").resolve()))


def other_names(path: str) -> list[str]:
    """The file under its own name and others."""
    Path("folder").mkdir(exist_ok=True)
    Path(f"link-{path}").symlink_to(path)
    os.link(path, f"hard-{path}")
    return [path, f"./{path}", f"folder/../{path}", str(Path(path).resolve()), f"link-{path}", f"hard-{path}"]


@pytest.mark.parametrize("option", ["-o", "--report"])
def test_the_input_is_never_written_over_under_any_name(stand_in, shell, option):
    api = stand_in()
    leads(2)
    before = Path("leads.csv").read_bytes()
    for name in other_names("leads.csv"):
        writing = ("-o", name) if option == "-o" else ("-o", "out.csv", "--report", name)
        refused = shell(api, "enrich", "leads.csv", *writing, "--force", "--yes")
        assert (refused.code, "cannot write" in refused.said) == (2, True), name
    assert Path("leads.csv").read_bytes() == before
    assert api.requests() == 0


SIDES = (
    "ledger.db",
    "ledger.db-wal",
    "ledger.db-shm",
    "ledger.db-journal",
    "ledger.db-owners/x.html",
    "ledger.db.lock",
)


@pytest.mark.parametrize("name", [*SIDES, "link.html", "old.db", "old.db-wal"])
@pytest.mark.parametrize("is_new", [True, False])
def test_no_ledger_is_ever_written_over(stand_in, shell, name, is_new):
    api = stand_in()
    leads(2)
    if not is_new:
        assert shell(api, "enrich", "leads.csv", "-o", "out.csv").code == 0
    elif name == "link.html" or "owners" in name:
        return
    # Another program's database, or another ledger.
    with closing(sqlite3.connect("old.db")) as database:
        database.execute("CREATE TABLE t (x)")
    Path("link.html").symlink_to("ledger.db")
    before = {path: path.read_bytes() for path in Path().glob("*.db")}
    asked = api.requests()
    refused = shell(api, "enrich", "leads.csv", "-o", "new.csv", "--report", name, "--force")
    assert (refused.code, "cannot write" in refused.said) == (2, True), refused.said
    assert {path: path.read_bytes() for path in Path().glob("*.db")} == before
    assert api.requests() == asked


@pytest.mark.parametrize("table", ["out.csv", "out.parquet", "new.tsv", "no-ending"])
def test_a_report_is_never_written_over_a_table(stand_in, shell, table):
    api = stand_in()
    leads(2)
    assert shell(api, "enrich", "leads.csv", "-o", "out.parquet").code == 0
    assert shell(api, "enrich", "leads.csv", "-o", "out.csv").code == 0
    shutil.copy("out.parquet", "no-ending")
    refused = shell(api, "enrich", "leads.csv", "-o", "next.csv", "--report", table, "--force")
    assert (refused.code, "a report is a web page" in refused.said) == (2, True)
    assert pd.read_parquet("no-ending").shape == pd.read_parquet("out.parquet").shape


def test_output_and_report_are_two_files_whatever_their_case(stand_in, shell):
    leads(2)
    Path("page.html").touch()
    Path("link.csv").symlink_to("page.html")
    Path("later.csv").symlink_to("Later.html")
    for output, page in (("link.csv", "page.html"), ("later.csv", "later.HTML")):
        refused = shell(stand_in(), "enrich", "leads.csv", "-o", output, "--report", page, "--force")
        assert (refused.code, "it is the output" in refused.said) == (2, True), output


def test_a_folder_that_is_not_there_is_not_made(stand_in, shell):
    api = stand_in()
    leads(2)
    for writing in (
        ("-o", "nwe/out.csv"),
        ("-o", "out.csv", "--report", "nwe/page.html"),
        ("-o", "nwe/out.parquet"),
    ):
        refused = shell(api, "enrich", "leads.csv", *writing)
        assert (refused.code, "there is no folder nwe; make it" in refused.said) == (2, True)
    assert not Path("nwe").exists()
    assert api.requests() == 0


SANDBOX_FILES = ("bill.db", "bill.db-wal", "bill.db-shm")
FULL = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
from eb_dagster.cli import main
main(prog_name="eb-dagster")
"""


@pytest.mark.skipif(os.name != "posix", reason="limits are POSIX")
def test_a_disk_without_room_is_told_before_anything_is_bought(stand_in, shell, tmp_path):
    api = stand_in()
    leads(2)
    del shell
    environment = {**os.environ, "EXACTBUYER_BASE_URL": api.url}
    for output in ("out.csv", "out.parquet"):
        asked = subprocess.run(
            [sys.executable, "-c", FULL, "enrich", "leads.csv", "-o", output],
            env=environment, cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert asked.returncode == 2, asked.stderr
        assert f"cannot write {output}: File too large; make room there" in asked.stderr
    assert api.requests() == 0
    assert not [path for path in tmp_path.iterdir() if path.name not in ("leads.csv", *SANDBOX_FILES)]


def test_a_person_is_asked_before_a_file_that_is_not_ours_is_replaced(stand_in, terminal):
    api = stand_in(match_rate=1.0)
    leads(2)
    Path("out.csv").write_text("mine")
    code, shown = terminal(api, "enrich", "leads.csv", "-o", "out.csv", answer="n")
    assert "out.csv is there, and this ledger did not write it. Replace it? [y/N]" in shown
    assert (code, Path("out.csv").read_text(), api.requests()) == (2, "mine", 0)
    code, _ = terminal(api, "enrich", "leads.csv", "-o", "out.csv", answer="y")
    assert (code, api.requests()) == (0, 1)
    assert Path("out.csv").read_text() != "mine"


def test_binary_columns_and_lists_of_a_parquet_file_are_text_in_a_csv(stand_in, shell):
    frame = pd.DataFrame({"email": ["a@firm.example"], "raw": [b"\xff\x00"], "many": [["x", "y"]]})
    frame.to_parquet("leads.parquet")
    assert shell(stand_in(), "enrich", "leads.parquet", "-o", "out.csv").code == 0
    with Path("out.csv").open(newline="") as made:
        row = next(csv.DictReader(made))
    assert (row["raw"], json.loads(row["many"])) == ("/wA=", ["x", "y"])


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
def test_ctrl_c_lets_what_was_asked_arrive(stand_in, shell, tmp_path):
    api = stand_in(match_rate=1.0, latency=1.0)
    leads(4000)
    environment = {**os.environ, "EXACTBUYER_BASE_URL": api.url}
    process = subprocess.Popen(
        [*COMMAND, "enrich", "leads.csv", "-o", "out.csv", "--requests-per-minute", "30"],
        env=environment, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    while "1 request," not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "what was bought is in the ledger" in said
    assert "credits charged" in out
    assert api.credits() < 4000
    assert not Path("out.csv").exists()
    # What was charged is known: nothing is in doubt, and the rest is bought by the next run.
    again = shell(api, "enrich", "leads.csv", "-o", "out.csv", "--requests-per-minute", "1000", "--json")
    assert again.code == 0
    assert api.charged_twice() == 0


@pytest.fixture
def run_in_flight(tmp_path, shell):
    """Start `eb-dagster enrich` in a process of its own, and wait until its only request is out."""
    # It gives the folder, the key and the ledger.
    del shell
    started = []

    def run(api):
        leads(13)
        process = subprocess.Popen(
            [*COMMAND, "enrich", "leads.csv", "-o", "out.csv"], cwd=tmp_path, text=True,
            env={**os.environ, "EXACTBUYER_BASE_URL": api.url}, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        started.append(process)
        deadline = time.monotonic() + 60
        while not api.requests() and time.monotonic() < deadline:
            time.sleep(0.01)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def line_with(words: str, process) -> str:
    while words not in (line := process.stderr.readline()):
        assert process.poll() is None
    return line


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
def test_ctrl_c_says_at_once_what_is_waited_for(stand_in, run_in_flight):
    process = run_in_flight(stand_in(match_rate=1.0, latency=5.0))
    process.send_signal(signal.SIGINT)
    said = line_with("stopping", process)
    # The reply is not here yet.
    assert process.poll() is None
    assert said == (
        "stopping: waiting for 1 request in flight (13 credits at risk); press Ctrl-C again to stop at "
        "once, and what is in flight is in doubt\n"
    )
    out, rest = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "waiting" not in rest
    assert rest.splitlines()[-1].startswith("stopped; what was bought is in the ledger")
    assert dict(line.split("  ", 1) for line in out.splitlines())["credits charged"].strip() == "13"


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
def test_a_second_ctrl_c_ends_with_what_is_in_doubt_and_what_to_do(stand_in, run_in_flight):
    process = run_in_flight(stand_in(match_rate=1.0, latency=60.0))
    process.send_signal(signal.SIGINT)
    line_with("stopping", process)
    process.send_signal(signal.SIGINT)
    out, rest = process.communicate(timeout=50)
    assert process.returncode == 1
    assert rest.splitlines()[-1] == (
        "stopped; 13 credits are in doubt: what was in flight may have been charged, and is not asked again by "
        "itself. See `eb-dagster ledger show`, compare with the vendor's bill, then decide with `eb-dagster "
        "ledger resolve`"
    )
    assert dict(line.split("  ", 1) for line in out.splitlines())["credits in doubt"].strip() == "13"


def test_exit_3_says_what_to_do_next(stand_in, shell):
    leads(10)
    capped = shell(stand_in(match_rate=1.0), "enrich", "leads.csv", "-o", "out.csv", "--max-credits", "4")
    assert capped.said.splitlines()[-1] == (
        "6 rows were not asked (--max-credits is spent). Another run asks the rest: what was bought is in the ledger"
    )
    lost = stand_in(match_rate=1.0, faults=[Fault("reset-after", 1)])
    doubtful = shell(lost, "enrich", "leads.csv", "-o", "2.csv", "--ledger", "other ledger.db")
    assert doubtful.said.splitlines()[-1] == (
        "10 rows are in doubt, which may have been charged, and not asked again by itself. See `eb-dagster ledger "
        "--ledger 'other ledger.db' show`, compare with the vendor's bill, then decide with `eb-dagster ledger "
        "--ledger 'other ledger.db' resolve`"
    )
    told = dict(line.split("  ", 1) for line in doubtful.out.splitlines() if "  " in line)
    assert (told["rows in doubt"].strip(), told["credits in doubt"].strip()) == ("10", "10")


def test_what_to_do_next_never_repeats_the_address_of_a_database(stand_in, shell, postgresql):
    leads(10)
    url = sa.make_url(postgresql.new_database()).set(password="canary-secret")
    lost = stand_in(match_rate=1.0, faults=[Fault("reset-after", 1)])
    told = shell(
        lost, "enrich", "leads.csv", "-o", "out.csv", "--ledger", url.render_as_string(hide_password=False)
    )
    assert "`eb-dagster ledger show`" in told.said
    assert "canary-secret" not in told.said + told.out


# At the prompt


def test_help_answers_at_once():
    heavy = "{'pandas', 'pyarrow', 'dagster', 'sqlalchemy', 'numpy', 'tqdm', 'requests', 'pandera'}"
    code = f"import sys\ntry:\n    from eb_dagster.cli import main; main(['--help'])\nfinally:\n    print({heavy} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.endswith("set()\n")
    assert "Exit codes" in ran.stdout
    assert "_EB_DAGSTER_COMPLETE=bash_source" in ran.stdout


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("eb-dagster en", "enrich"),
        ("eb-dagster enrich --colu", "--columns"),
        ("eb-dagster enrich --columns full", "full_name"),
        ("eb-dagster enrich --columns full_name,work", "full_name,work_email"),
        ("eb-dagster plan --required personal", "personal_email"),
    ],
)
def test_the_shell_completes(words, completed):
    environment = {
        **os.environ, "_EB_DAGSTER_COMPLETE": "bash_complete",
        "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1),
    }  # fmt: skip
    ran = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, check=False)
    assert f"plain,{completed}" in ran.stdout.splitlines()
