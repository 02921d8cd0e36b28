from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa

from eb_dagster.sandbox import Fault
from tests.cli.shell import CANARY, leads


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


@pytest.mark.parametrize("command", [("plan", "leads.csv"), ("enrich", "leads.csv", "-o", "out.csv")])
def test_phones_without_a_country_code_are_counted_also_where_another_identifier_is_fine(
    stand_in, shell, command
):
    lines = [f"p{number}@firm.example,0170 55501{number:02}" for number in range(26)]
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


def test_the_page_has_plots_and_no_people(stand_in, shell):
    Path("leads.csv").write_text(f"email\n{CANARY}\n")
    done = shell(stand_in(match_rate=1.0), "enrich", "leads.csv", "-o", "out.csv", "--report", "report.html")
    assert done.code == 0
    page = Path("report.html").read_text(encoding="utf-8")
    assert page.count("<ul class='bars'>") == 3
    assert "canary" not in page
    name = pd.read_csv("out.csv")["eb_last_name"][0]
    assert name not in page


def test_it_says_where_everything_was_written(stand_in, shell):
    leads(2)
    for folder in ("new", "pages"):
        Path(folder).mkdir()
    done = shell(stand_in(), "enrich", "leads.csv", "-o", "new/out.csv", "--report", "pages/report.html")
    assert done.out.splitlines()[-2:] == ["written to new/out.csv", "report written to pages/report.html"]


# Exit codes


def test_a_run_that_is_stopped_tells_what_it_spent_and_is_finished_by_the_next(stand_in, shell):
    leads(1500)
    short = stand_in(match_rate=1.0, credits=1200)
    stopped = shell(
        short, "enrich", "leads.csv", "-o", "out.csv", "--price", "1", "--report", "report.html",
        "--requests-per-minute", "60",
    )  # fmt: skip
    assert stopped.code == 1
    assert "Refused: the API refused with HTTP 403" in stopped.said
    assert stopped.said.splitlines()[-1].startswith(
        "stopped before the end, so no table was written. Once that"
    )
    assert "1,000.00 (1,000 at 1)" in stopped.out
    assert Path("report.html").exists()
    assert not Path("out.csv").exists()


def test_rows_without_an_answer_are_exit_3(stand_in, shell):
    leads(10)
    capped = shell(stand_in(match_rate=1.0), "enrich", "leads.csv", "-o", "out.csv", "--max-credits", "4")
    assert capped.code == 3
    assert pd.read_csv("out.csv")["eb_status"].value_counts().to_dict() == {"not_asked": 6, "matched": 4}


def test_exit_3_says_what_to_do_next(stand_in, shell):
    leads(10)
    capped = shell(stand_in(match_rate=1.0), "enrich", "leads.csv", "-o", "out.csv", "--max-credits", "4")
    assert capped.said.splitlines()[-1] == (
        "stopped before the end: --max-credits is spent, and 6 rows were not asked. Run the same command again for the "
        "rest: what was bought is in the ledger and is not paid for again; --max-credits is for each run"
    )
    lost = stand_in(match_rate=1.0, faults=[Fault("reset-after", 1)])
    doubtful = shell(lost, "enrich", "leads.csv", "-o", "2.csv", "--ledger", "other ledger.db")
    assert doubtful.said.splitlines()[-1] == (
        "10 rows are in doubt, perhaps charged, and not asked again automatically. See `eb-dagster ledger "
        "--ledger 'other ledger.db' show`, compare with the vendor's bill, then decide with `eb-dagster ledger "
        "--ledger 'other ledger.db' resolve`"
    )
    told = dict(line.split("  ", 1) for line in doubtful.out.splitlines() if "  " in line)
    assert (told["rows in doubt"].strip(), told["credits in doubt"].strip()) == ("10", "10")


def test_a_cap_of_all_runs_is_told_once_with_what_lifts_it(stand_in, shell):
    leads(10)
    api = stand_in(match_rate=1.0)
    shell(api, "ledger", "cap", "--daily", "4")
    capped = shell(api, "enrich", "leads.csv", "-o", "out.csv")
    assert (capped.code, capped.said.count("the daily cap on credits is spent")) == (3, 1)
    assert capped.said.splitlines()[-1] == (
        "stopped before the end: the daily cap on credits is spent, and 6 rows were not asked. From midnight UTC, or "
        "with a higher cap (`eb-dagster ledger cap --daily`): run the same command again for the rest: what was bought "
        "is in the ledger and is not paid for again"
    )


def test_what_to_do_next_never_repeats_the_address_of_a_database(stand_in, shell, postgresql):
    leads(10)
    url = sa.make_url(postgresql.new_database()).set(password="canary-secret")
    lost = stand_in(match_rate=1.0, faults=[Fault("reset-after", 1)])
    told = shell(
        lost, "enrich", "leads.csv", "-o", "out.csv", "--ledger", url.render_as_string(hide_password=False)
    )
    assert "`eb-dagster ledger show`" in told.said
    assert "canary-secret" not in told.said + told.out
