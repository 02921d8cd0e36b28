"""How the sandbox starts, runs and ends, and what it keeps."""

import contextlib
import logging
import re
import socket
import sqlite3
import subprocess
import sys
import threading
import time

import pytest
import requests

from eb_dagster import sandbox
from eb_dagster.sandbox import Fault
from tests.sandbox.client import ask, connect, emails, form, get, raw_request, rows, wait_for


def test_the_charge_is_on_the_bill_before_the_reply_is_sent(start):
    api = start(match_rate=1.0, latency=1.0)
    with connect(api) as connection:
        connection.sendall(raw_request(emails(2)))
        wait_for(lambda: api.credits() == 2)
        connection.settimeout(0.05)
        with pytest.raises(TimeoutError):
            connection.recv(1)


def test_latency_holds_every_reply_back_and_requests_overlap(start):
    api = start(latency=0.5)
    threads = [threading.Thread(target=ask, args=(api, emails(1))) for _ in range(6)]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0.5 <= time.monotonic() - begin < 2.5


def test_the_counts_can_be_read_over_http(start):
    api = start(match_rate=1.0)
    ask(api, emails(3))
    ask(api, emails(1))
    assert get(f"{api.url}/charges.json").json() == {"requests": 2, "credits": 4, "charged_twice": 1}
    page = get(f"{api.url}/")
    assert page.headers["Content-Type"].startswith("text/plain")
    assert re.search(r"Requests so far: +2\n", page.text)
    assert re.search(r"Credits so far: +4\n", page.text)


def test_the_bill_can_be_read_after_the_end_and_by_its_owner_only(tmp_path):
    with sandbox.running(bill=tmp_path / "new" / "bill.db", match_rate=1.0) as api:
        ask(api, emails(3))
    assert (api.requests(), api.credits()) == (1, 3)
    assert api.bill.stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_no_bill_is_refused_and_left_alone(tmp_path):
    file = tmp_path / "bill.db"
    file.write_text("somebody's notes, which are no database\n" * 100)
    with pytest.raises(ValueError, match="not a bill"), sandbox.running(bill=file):
        pass
    assert file.read_text().startswith("somebody's notes")


def test_a_database_of_another_kind_is_refused_and_left_alone(tmp_path):
    other = sandbox.Sandbox(url="", bill=tmp_path / "other.db")
    with contextlib.closing(sqlite3.connect(other.bill)) as connection:
        connection.execute("CREATE TABLE requests (id INTEGER PRIMARY KEY, body TEXT)")
    with pytest.raises(ValueError, match="not a bill"), sandbox.running(bill=other.bill):
        pass
    assert rows(other, "SELECT name FROM sqlite_master") == [("requests",)]


def test_nothing_is_printed_or_logged_about_keys_or_people(start, capfd, caplog):
    caplog.set_level(logging.DEBUG)
    api = start(match_rate=1.0, requests_per_minute=3, faults=[Fault("reset-after", 3)])
    headers = {"X-API-Key": "canary-key"}
    for data in (form(emails(1)), {"query_list": "lead0@north.example"}):
        ask(api, None, data=data, headers=headers)
    with pytest.raises(requests.ConnectionError):
        ask(api, emails(1), headers=headers)
    assert ask(api, emails(1), headers=headers).status_code == 429
    with connect(api) as connection:
        connection.sendall(b"lead0@north.example\r\n\r\n")
        connection.recv(65536)
    out, err = capfd.readouterr()
    logged = "".join(record.getMessage() for record in caplog.records)
    assert (out, err) == ("", "")
    assert "canary" not in logged
    assert "north.example" not in logged


def test_serve_runs_until_it_is_interrupted(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    code = (
        "from pathlib import Path; from eb_dagster import sandbox\n"
        f"sandbox.serve(port={port}, bill=Path({str(tmp_path / 'bill.db')!r}), match_rate=1.0)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    try:
        api = sandbox.Sandbox(url=f"http://127.0.0.1:{port}", bill=tmp_path / "bill.db")
        wait_for(lambda: process.poll() is not None or is_open(port))
        assert ask(api, emails(2)).json()["records_enriched"] == 2
        assert api.credits() == 2
    finally:
        process.kill()
        process.communicate(timeout=30)
    # It was killed, and no charge is forgotten.
    assert api.credits() == 2


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_without_flask_the_sandbox_can_be_imported_and_says_what_to_install(tmp_path):
    code = (
        "import sys; sys.modules['flask'] = None\n"
        "from eb_dagster import sandbox\n"
        "from pathlib import Path\n"
        "for call in (sandbox.running, sandbox.create_app, sandbox.serve):\n"
        "    more = {} if call is sandbox.create_app else {'port': 0}\n"
        "    try:\n"
        f"        made = call(bill=Path({str(tmp_path / 'bill.db')!r}), **more)\n"
        "        made.__enter__()\n"
        "    except ImportError as error:\n"
        "        print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout.count('pip install "eb-dagster[sandbox]"') == 3
    assert not (tmp_path / "bill.db").exists()
