import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest

from eb_dagster.ledger.ledger import Ledger
from tests.cli.shell import leads


def test_bad_targets_are_refused_before_anything_is_sent(stand_in, shell):
    api = stand_in()
    leads(2)
    Path("file").write_text("")
    for output in ("leads.csv", "out.xls", "file/out.csv", "file/out.parquet"):
        refused = shell(api, "enrich", "leads.csv", "-o", output)
        assert (refused.code, refused.out) == (2, ""), output
    same = shell(api, "enrich", "leads.csv", "-o", "out.csv", "--report", "out.csv")
    assert same.code == 2
    assert api.requests() == 0


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
    assert "crm.csv is not a ledger, but a file of another kind" in other.said
    assert Path("crm.csv").read_text() == "email\n"
    for folder in (".", "adir", "adir/"):
        refused = shell(api, "enrich", "leads.csv", "-o", folder)
        assert (refused.code, refused.out) == (2, "")
        assert f"cannot write {Path(folder)}: it is a folder; name a file in it, such as " in refused.said
    assert "is a folder" in shell(api, "plan", "adir").said
    assert api.requests() == 0


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
        assert ledger.publications.has(str(Path("out.csv").resolve()))
        assert not ledger.publications.has(str(Path("leads.csv").resolve()))


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
