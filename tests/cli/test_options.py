import os
import subprocess

import pandas as pd
import pytest

from tests.cli.shell import COMMAND, leads


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


def test_a_wrong_option_is_a_usage_error(stand_in, shell):
    api = stand_in()
    leads(1)
    for wrong in (
        ["--separator", "colon"],
        ["--price", "-1"],
        ["--price", "nan"],
        ["--price", "inf"],
        ["--max-age-days", "0"],
        ["--max-age", "90"],
        ["--over-budget", "x"],
    ):
        assert shell(api, "plan", "leads.csv", *wrong).code == 2
    assert shell(api, "init", "leads.csv", "--yes", "--price", "nan").code == 2
    assert shell(api, "sandbox", "--fault", "nonsense").code == 2


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
