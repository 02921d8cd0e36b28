"""The example's alerts, told to a Slack and a mail server of this machine's own."""

import http.server
import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import dagster as dg
import pandas as pd
import pytest

from eb_dagster import ExactBuyerResource, build_enriched_contacts_asset
from eb_dagster.sandbox import Fault
from example_project.defs import alerts


@contextmanager
def served(server: socketserver.BaseServer) -> Iterator[str]:
    """The server's address, while a thread serves it."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        host, port, *_ = cast("tuple[str, int]", server.server_address)
        yield f"{host}:{port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def slack(monkeypatch) -> Iterator[list[str]]:
    told: list[str] = []

    class Channel(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with served(http.server.HTTPServer(("127.0.0.1", 0), Channel)) as address:
        monkeypatch.setenv("SLACK_WEBHOOK_URL", f"http://{address}")
        yield told


@pytest.fixture
def mail(monkeypatch) -> Iterator[list[str]]:
    told: list[str] = []

    class Mailbox(socketserver.StreamRequestHandler):
        """As much of SMTP as one message needs."""

        def handle(self):
            self.wfile.write(b"220 mail.example\r\n")
            for line in self.rfile:
                word = line[:4].upper()
                if word == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    told.append(b"".join(iter(self.rfile.readline, b".\r\n")).decode())
                self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 OK\r\n")
                if word == b"QUIT":
                    return

    with served(socketserver.TCPServer(("127.0.0.1", 0), Mailbox)) as address:
        monkeypatch.setenv("ALERT_EMAIL", "data@firm.example")
        monkeypatch.setenv("ALERT_SMTP", address)
        yield told


@pytest.fixture
def run(tmp_path, instance) -> Callable[..., None]:
    """Materialize, and let the sensor see how it ended."""

    @dg.asset
    def leads():
        return pd.DataFrame({"email": [f"canary{number}@firm.example" for number in range(20)]})

    def start(api, **keywords) -> None:
        asset = build_enriched_contacts_asset(
            name="enriched_contacts", source=leads, path=tmp_path / "out.parquet", **keywords
        )
        resource = ExactBuyerResource(
            api_key="canary-key", base_url=api.url, ledger=str(tmp_path / "ledger.db"), price=0.5
        )
        result = dg.materialize(
            [leads, asset],
            instance=instance,
            resources={"exactbuyer": resource, "io_manager": dg.mem_io_manager},
            raise_on_error=False,
        )
        ended = "PIPELINE_SUCCESS" if result.success else "PIPELINE_FAILURE"
        sensor = alerts.alert_on_open_rows if result.success else alerts.alert_on_failure
        context = dg.build_run_status_sensor_context(
            sensor_name=sensor.name,
            dagster_event=next(event for event in result.all_events if event.event_type_value == ended),
            dagster_instance=instance,
            dagster_run=instance.get_run_by_id(result.run_id),
        )
        sensor(context)

    return start


def test_slack_is_told_when_the_budget_is_spent(run, slack, stand_in):
    run(stand_in(match_rate=1.0), max_credits=8)
    (text,) = slack
    assert "left rows open (run " in text
    assert "not asked: 12" in text
    assert "credits charged: 8, cost: 4" in text
    assert "enriched_contacts, everything_asked: " in text
    assert "canary" not in text


def test_an_e_mail_tells_of_doubt_and_of_a_run_that_failed(run, mail, stand_in):
    run(stand_in(match_rate=1.0, faults=[Fault("reset-after", 1, 1), Fault("403", 2, 2)]))
    (text,) = mail
    assert "To: data@firm.example" in text
    assert "left rows open\n" in text.replace("\r", "")
    assert "in doubt: 20" in text
    assert "nothing_in_doubt: " in text
    assert "canary" not in text


def test_a_failed_run_tells_what_it_spent(run, mail, slack, stand_in):
    run(stand_in(match_rate=1.0, faults=[Fault("403", 2, 2)]), partition_size=10)
    assert "failed (run " in slack[0]
    assert "credits charged: 10" in slack[0]
    assert len(mail) == 1


def test_a_check_that_fails_is_told_and_a_run_without_fault_is_not(run, slack, stand_in):
    api = stand_in(match_rate=1.0)
    run(api)
    assert slack == []
    run(api, max_match_rate=0.5)
    (text,) = slack
    assert "failed a check" in text
    assert "match_rate: 100.0% of the rows" in text
