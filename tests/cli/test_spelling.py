from pathlib import Path

import pandas as pd
import pytest

from tests.cli.shell import leads


def test_an_error_names_the_options_and_not_what_python_calls_them(stand_in, shell):
    leads(10)
    api = stand_in()
    enrich = ("enrich", "leads.csv", "-o", "out.csv")
    refused = shell(api, *enrich, "--max-credits", "4", "--over-budget", "refuse")
    assert "10 credits, --max-credits is 4. Raise it" in refused.said
    assert 'or choose --over-budget "stop"' in refused.said
    assert "--region is not a country" in shell(api, "plan", "leads.csv", "--region", "XX").said
    Path("leads.csv").write_text("email,eb_status\na@firm.example,1\n")
    assert "choose another --prefix" in shell(api, *enrich).said
    assert "--base-url or EXACTBUYER_BASE_URL has" in shell(api, *enrich, "--base-url", "ftp://a").said
    assert "--proxy is not the address of a proxy" in shell(api, *enrich, "--proxy", "host").said
    assert "--prefix holds a line break" in shell(api, *enrich, "--prefix", "a\nb").said


@pytest.mark.parametrize(("name", "content"), [("empty.ndjson", b""), ("max_age.ndjson", b"[1]")])
def test_an_ordinary_word_and_the_name_of_a_file_are_no_option(stand_in, shell, name, content):
    Path(name).write_bytes(content)
    said = shell(stand_in(), "plan", name).said
    assert name in said
    assert "--" not in said


def test_a_column_that_is_called_as_a_setting_keeps_its_name(stand_in, shell):
    pd.DataFrame({"max_age": [1], "columns": [2], "in_doubt": ["a"]}).to_parquet("leads.parquet")
    api = stand_in()
    for asked in ("max_age", "columns"):
        said = shell(api, "plan", "leads.parquet", "--email", asked).said
        assert f"'{asked}': 1 of 1 values are numbers" in said
    missing = shell(api, "plan", "leads.parquet", "--email", "default_region").said
    assert "no column 'default_region'; there are 'max_age', 'columns', 'in_doubt'" in missing
