import pandas as pd
from click.testing import CliRunner

from eb_dagster.cli import main


def call(*arguments: str, **environment: str):
    return CliRunner().invoke(main, list(arguments), env=environment)


def environment(api, tmp_path) -> dict[str, str]:
    return {
        "EXACTBUYER_API_KEY": "k", "EXACTBUYER_BASE_URL": api.url,
        "EB_DAGSTER_LEDGER": str(tmp_path / "l.db"),
    }  # fmt: skip


def test_a_csv_is_planned_and_enriched(stand_in, tmp_path):
    settings = environment(stand_in(), tmp_path)
    (tmp_path / "leads.csv").write_text("Email,n\na@firm.example,01\nb@firm.example,02\n")
    plan = call("plan", str(tmp_path / "leads.csv"), **settings)
    assert "identifiers to ask first       2" in plan.output
    done = call("enrich", str(tmp_path / "leads.csv"), "-o", str(tmp_path / "out.csv"), **settings)
    assert done.exit_code == 0, done.output
    assert pd.read_csv(tmp_path / "out.csv", dtype=str)["n"].tolist() == ["01", "02"]
    done = call("enrich", str(tmp_path / "leads.csv"), "-o", str(tmp_path / "out.parquet"), **settings)
    assert done.exit_code == 0, done.output
    assert len(pd.read_parquet(tmp_path / "out.parquet")) == 2


def test_bad_input_is_one_line_and_exit_2(stand_in, tmp_path):
    api = stand_in()
    (tmp_path / "leads.csv").write_text("name\nx\n")
    done = call(
        "enrich",
        str(tmp_path / "leads.csv"),
        "-o",
        str(tmp_path / "o.csv"),
        **environment(api, tmp_path),
    )
    assert done.exit_code == 2
    assert "no identifier columns" in done.output
    assert api.requests() == 0


def test_a_wrong_fault_is_a_usage_error():
    assert call("sandbox", "--fault", "nonsense").exit_code == 2
