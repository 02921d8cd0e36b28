"""What file a ledger may be opened on, and what may change behind its back."""

import os
import shutil
import socket
import sqlite3
import threading
from contextlib import closing
from pathlib import Path, PureWindowsPath
from typing import Any

import pandas as pd
import pytest

from eb_dagster import LedgerError
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.ledger.sqlite import network_file_system
from tests.ledger.steps import ENDPOINT, JANE, claim, claim_emails, known


def test_a_ledger_that_others_can_read_is_refused(tmp_path):
    path = tmp_path / "l.db"
    Ledger(path, endpoint=ENDPOINT).close()
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    with pytest.raises(LedgerError, match="chmod 600"):
        Ledger(path, endpoint=ENDPOINT)


def test_a_link_to_a_ledger_is_the_ledger(tmp_path):
    (tmp_path / "link.db").symlink_to(tmp_path / "l.db")
    with (
        closing(Ledger(tmp_path / "l.db", endpoint=ENDPOINT)) as ledger,
        closing(Ledger(tmp_path / "link.db", endpoint=ENDPOINT)) as same,
    ):
        claim(ledger, JANE)
        assert same.recover() == 0
        assert known(same, JANE).standing == "in_flight"


def test_a_second_hard_link_is_refused(tmp_path):
    Ledger(tmp_path / "l.db", endpoint=ENDPOINT).close()
    os.link(tmp_path / "l.db", tmp_path / "other.db")
    with pytest.raises(LedgerError, match="hard link"):
        Ledger(tmp_path / "l.db", endpoint=ENDPOINT)


def test_new_folders_are_their_owners_only(tmp_path):
    Ledger(tmp_path / "a" / "b" / "l.db", endpoint=ENDPOINT).close()
    for folder in (tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a" / "b" / "l.db-owners"):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_network_file_system_is_told_by_the_mount_the_path_is_on(tmp_path):
    mounts = (
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        "40 22 0:44 / /mnt/team\\040share rw shared:5 - nfs4 server:/x rw\n"
        "41 40 0:45 / /mnt/team\\040share/local rw - xfs /dev/sdb rw\n"
    )
    root = type(tmp_path)("/")
    assert network_file_system(root / "mnt" / "team share" / "l.db", mounts) == "nfs4"
    assert network_file_system(root / "mnt" / "team share" / "local" / "l.db", mounts) is None
    assert network_file_system(root / "home" / "l.db", mounts) is None
    assert network_file_system(root / "home" / "l.db", "") is None


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (r"\\server\team share\ledger.db", "a Windows share"),
        (r"\\?\UNC\server\team\ledger.db", "a Windows share"),
        (r"\\wsl$\Ubuntu\home\ada\ledger.db", "a Windows share"),
        (r"C:\data\ledger.db", None),
        (r"\\?\C:\data\ledger.db", None),
    ],
)
def test_a_share_of_windows_is_told_by_its_name(path, kind):
    windows_path: Any = PureWindowsPath(path)
    assert network_file_system(windows_path, "") == kind


def test_many_may_open_a_new_ledger_at_once(tmp_path):
    failed: list[Exception] = []

    def open_one(path, gate) -> None:
        gate.wait()
        try:
            Ledger(path, endpoint=ENDPOINT).close()
        except Exception as error:
            failed.append(error)

    for number in range(30):
        gate = threading.Barrier(8)
        several = [
            threading.Thread(target=open_one, args=(tmp_path / f"{number}.db", gate)) for _ in range(8)
        ]
        for thread in several:
            thread.start()
        for thread in several:
            thread.join()
    assert failed == []


def unusual(path: Path, kind: str) -> socket.socket | None:
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a folder":
        path.mkdir()
    elif kind == "a device":
        path.symlink_to("/dev/null")
    else:
        # Bound in its folder, for a path of a socket must be short.
        here = Path.cwd()
        os.chdir(path.parent)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path.name)
        os.chdir(here)
        return listener
    return None


@pytest.mark.parametrize("kind", ["a pipe", "a folder", "a device", "a socket"])
@pytest.mark.parametrize("end", ["", "-wal", "-shm"])
@pytest.mark.timeout(20)
def test_what_is_no_file_is_told_as_what_it_is_and_not_waited_for(tmp_path, kind, end):
    if end:
        Ledger(tmp_path / "l.db", endpoint=ENDPOINT).close()
    kept = unusual(tmp_path / f"l.db{end}", kind)
    with pytest.raises(LedgerError, match=kind):
        Ledger(tmp_path / "l.db", endpoint=ENDPOINT)
    if kept is not None:
        kept.close()


def foreign_file(path: Path, kind: str) -> None:
    if kind == "text":
        path.write_text("email\njane@firm.example\n")
    elif kind == "Parquet":
        pd.DataFrame({"email": ["jane@firm.example"]}).to_parquet(path)
    else:
        with closing(sqlite3.connect(path)) as connection:
            if kind == "an application's mark":
                connection.execute("PRAGMA application_id = 1234")
                connection.execute("VACUUM")
            else:
                connection.execute(
                    "CREATE TABLE meta (x)" if kind == "our names" else "CREATE TABLE people (x)"
                )
            if kind == "a log":
                connection.execute("PRAGMA journal_mode = WAL")
            connection.commit()


@pytest.mark.parametrize("kind", ["text", "Parquet", "tables", "our names", "an application's mark", "a log"])
@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_another_programs_file_is_refused_and_left_as_it_is(tmp_path, kind, mode):
    path = tmp_path / "other.db"
    foreign_file(path, kind)
    path.chmod(mode)
    before = path.read_bytes()
    with pytest.raises(LedgerError, match=r"another (program|kind)"):
        Ledger(path, endpoint=ENDPOINT)
    assert path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["other.db"]


def test_an_empty_file_is_a_new_ledger_unless_one_was_there(tmp_path):
    path = tmp_path / "l.db"
    path.touch(mode=0o600)
    Ledger(path, endpoint=ENDPOINT).close()
    path.write_bytes(b"")
    with pytest.raises(LedgerError, match="was emptied"):
        Ledger(path, endpoint=ENDPOINT)
    path.unlink()
    (tmp_path / "l.db-wal").write_bytes(b"what came last")
    with pytest.raises(LedgerError, match="still there"):
        Ledger(path, endpoint=ENDPOINT)
    assert not path.exists()


def taken_away(path: Path, how: str) -> None:
    if how == "the folder moved":
        path.parent.rename(path.parent.with_name("elsewhere"))
    elif how == "moved":
        path.rename(path.with_name("elsewhere.db"))
    elif how == "replaced":
        shutil.copy(path, path.with_name("copy.db"))
        path.with_name("copy.db").replace(path)
    else:
        path.with_name(path.name + how).unlink()


@pytest.mark.parametrize("how", ["", "-wal", "-shm", "moved", "replaced", "the folder moved"])
def test_nothing_is_claimed_once_the_files_behind_the_path_are_others(tmp_path, how):
    (tmp_path / "place").mkdir()
    path = tmp_path / "place" / "l.db"
    ledger = Ledger(path, endpoint=ENDPOINT)
    claimed = claim_emails(ledger, "a@firm.example")
    taken_away(path, how)
    with pytest.raises(LedgerError, match="moved, removed or replaced"):
        claim_emails(ledger, "b@firm.example")
    # A reply that was paid for is written down all the same.
    ledger.record(claimed.request_id, http_status=200, encoding="", complete=True, body=b"raw")
    ledger.close()


def test_a_run_stops_when_its_ledger_is_moved_and_the_next_pays_nothing_twice(stand_in, enricher, tmp_path):
    api, path = stand_in(match_rate=1.0), tmp_path / "ledger.db"
    frame = pd.DataFrame({"email": [f"p{number}@firm.example" for number in range(40)]})

    def move(report) -> None:
        if report.answers >= 10 and path.exists():
            path.rename(tmp_path / "elsewhere.db")

    buyer = enricher(api, partition_size=1, max_credits_at_risk=1, progress=move)
    with pytest.raises(LedgerError, match="moved"):
        buyer.enrich_dataframe(frame)
    buyer.close()
    (tmp_path / "elsewhere.db").rename(path)
    enricher(api).enrich_dataframe(frame)
    assert (api.charged_twice(), api.credits()) == (0, 40)
