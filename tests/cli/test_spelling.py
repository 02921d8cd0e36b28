from pathlib import Path

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
