import csv
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa

from eb_dagster.sandbox import Fault
from tests.cli.shell import CANARY, COMMAND, leads


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
    lines = [f"p{number}@firm.example,=1+{number}" for number in range(60)]
    Path("leads.csv").write_text("\n".join(["email,+sum", *lines, ""]))
    done = shell(stand_in(match_rate=1.0), "enrich", "leads.csv", "-o", "out.csv", "--prefix", "bought_")
    assert done.code == 0
    made = pd.read_csv("out.csv", dtype=str, keep_default_na=False)
    assert made["+sum"].tolist() == [f"=1+{number}" for number in range(60)]
    ours = [name for name in made.columns if name.startswith("bought_")]
    assert len(ours) > 30
    phones = [phone for phone in made["bought_phone"] if phone]
    assert phones
    assert all(phone.startswith("'+") for phone in phones)
    assert not made[ours].map(lambda cell: cell.startswith(("=", "+", "-", "@"))).any(axis=None)
    assert {type(json.loads(cell)) for cell in made["bought_emails"] if cell} == {list}
    assert isinstance(json.loads(made["bought_social_profiles"].max())[0]["network"], str)


def test_columns_of_one_name_pass_through_text_but_not_to_parquet(stand_in, shell):
    Path("leads.csv").write_text("email,x,x\na@firm.example,1,2\n")
    api = stand_in(match_rate=1.0)
    assert shell(api, "enrich", "leads.csv", "-o", "out.csv").code == 0
    with Path("out.csv").open(newline="") as made:
        assert next(csv.reader(made))[:3] == ["email", "x", "x"]
    refused = shell(api, "enrich", "leads.csv", "-o", "out.parquet")
    assert refused.code == 2
    assert "more than one column is called ['x']" in refused.said


def test_binary_columns_and_lists_of_a_parquet_file_are_text_in_a_csv(stand_in, shell):
    frame = pd.DataFrame({"email": ["a@firm.example"], "raw": [b"\xff\x00"], "many": [["x", "y"]]})
    frame.to_parquet("leads.parquet")
    assert shell(stand_in(), "enrich", "leads.parquet", "-o", "out.csv").code == 0
    with Path("out.csv").open(newline="") as made:
        row = next(csv.DictReader(made))
    assert (row["raw"], json.loads(row["many"])) == ("/wA=", ["x", "y"])


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


def test_an_unknown_column_is_told_with_those_there_are(stand_in, shell):
    leads(1)
    refused = shell(stand_in(), "plan", "leads.csv", "--email", "Emial")
    assert refused.code == 2
    assert "no column 'Emial'; there are 'Email', 'n'" in refused.said


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


def test_a_start_says_from_whom_by_which_ledger_and_what_the_caps_leave(stand_in, shell):
    leads(2)
    api = stand_in(match_rate=1.0)
    path = Path.cwd() / "new" / "typo.db"
    for _ in range(2):
        planned = shell(api, "plan", "leads.csv", "--ledger", "new/typo.db", "--max-credits", "50").said
        assert planned.splitlines()[2:] == [
            f"  buys from: the sandbox at {api.url}, whose people are made up",
            f"  ledger: {path}",
            "  credits left: 50 for this run",
            f"  warning: the ledger is new and empty ({path}), so nothing counts as bought yet. The first "
            "time, that is as it should be. If you have bought before, name that ledger: this one would pay for "
            "everything again",
        ]
        # A plan makes no ledger and no folder.
        assert not path.parent.exists()
    enriched = shell(api, "enrich", "leads.csv", "-o", "out.csv").said
    assert (
        f"  ledger: {Path.cwd() / 'ledger.db'}\n  credits left: as many as you have, for no cap is set\n"
        in enriched
    )
    assert "  warning: the ledger is new and empty" in enriched
    shell(api, "ledger", "cap", "--daily", "8", "--monthly", "1000")
    again = shell(api, "enrich", "leads.csv", "-o", "out.csv", "--max-credits", "3").said
    assert "  credits left: 3 for this run, 6 today, 998 this month\n" in again
    assert "warning" not in again
    real = shell(api, "plan", "leads.csv", "--base-url", "https://api.example/").said
    assert "  buys from: https://api.example\n" in real


def test_a_database_is_named_without_its_user_and_password(stand_in, shell, postgresql):
    leads(2)
    url = sa.make_url(postgresql.new_database())
    told = shell(stand_in(), "plan", "leads.csv", "--ledger", url.render_as_string(hide_password=False)).said
    (line,) = [line for line in told.splitlines() if line.startswith("  ledger: ")]
    assert line.startswith("  ledger: postgresql://")
    assert line.endswith(f"/{url.database}")
    assert f"{url.username}@" not in line


def test_what_is_in_doubt_is_held_until_it_is_sent_again_by_choice(stand_in, shell):
    api = stand_in(match_rate=1.0, faults=[Fault("reset-after", 1)])
    leads(3)
    held = shell(api, "enrich", "leads.csv", "-o", "out.csv")
    assert held.code == 3
    assert shell(api, "enrich", "leads.csv", "-o", "out.csv").code == 3
    assert api.requests() == 1
    assert shell(api, "enrich", "leads.csv", "-o", "out.csv", "--in-doubt", "resend").code == 0


def test_a_fault_late_in_the_file_is_found_before_anything_is_sent(stand_in, shell):
    api = stand_in()
    leads(20_000)
    with Path("leads.csv").open("a") as file:
        file.write("x@firm.example,1,2\n")
    refused = shell(api, "enrich", "leads.csv", "-o", "out.csv")
    assert refused.code == 2
    assert "line 20002: 3 cells" in refused.said
    assert api.requests() == 0


def test_more_than_the_cap_is_refused_if_so_chosen(stand_in, shell):
    api = stand_in()
    leads(10)
    refused = shell(
        api, "enrich", "leads.csv", "-o", "out.csv", "--max-credits", "4", "--over-budget", "refuse"
    )
    assert refused.code == 2
    assert "OverBudget: this may cost 10 credits" in refused.said
    assert api.requests() == 0


# On a terminal


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
    assert "1 request, 20 credits of 20 asked" in shown
    assert "written to out.csv" in shown


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


# Ctrl-C


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
    while not re.search(r"[1-3] requests?, ", process.stderr.readline()):
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
        "once; what is in flight will then be in doubt\n"
    )
    out, rest = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "stopping: waiting" not in rest
    assert rest.splitlines()[-1] == (
        "stopped before the end by you, so no table was written. Run the same command again for the rest: what was "
        "bought is in the ledger and is not paid for again"
    )
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
        "stopped before the end by you; 13 credits are in doubt: what was in flight may have been charged, and is not asked again "
        "automatically. See `eb-dagster ledger show`, compare with the vendor's bill, then decide with `eb-dagster "
        "ledger resolve`"
    )
    assert dict(line.split("  ", 1) for line in out.splitlines())["credits in doubt"].strip() == "13"
