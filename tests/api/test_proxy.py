"""By way of a proxy: a real one on this machine, TLS inside it, and what can go wrong at each stage."""

import base64
import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Literal

import pandas as pd
import pytest

from eb_dagster import ConfigError
from eb_dagster.api.client import Client
from eb_dagster.api.outcome import judge
from eb_dagster.api.reply import NoReply, Reply
from eb_dagster.settings import read_ca_bundle, read_proxy, read_settings
from tests.busy import allowed
from tests.faults.certificates import make_certificates
from tests.vendors import answering, records

CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"
VARIABLES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
BODY = b"query_list=[]&x=" + b"x" * 400_000


class Proxy:
    """What was asked of it, and how it goes on."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.heads: list[bytes] = []
        self.answers = [CONNECTED]
        """To one CONNECT after the other; the last one to all that follow. Empty: nothing is said."""
        self.unanswered: Callable[[socket.socket], None] = lambda _: None
        """What is done when nothing is said."""
        self.most_up: int | None = None
        """Bytes that are let through to the server."""
        self.behind_them: Literal["close", "stall", "swallow"] = "close"
        self.most_down: int | None = None
        """Bytes of a reply that are let through to the client, before both sides are closed."""
        self.is_reply: Callable[[], bool] = lambda: True
        """Whether what comes from the server by now is its reply."""

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self.listener.accept()[0],), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(4096)
            self.heads.append(head)
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if not answer:
                self.unanswered(client)
                return
            client.sendall(answer)
            if not answer.startswith(CONNECTED[:12]):
                return
            host, _, port = head.split()[1].decode().rpartition(":")
            with socket.create_connection((host, int(port))) as server:
                down = threading.Thread(
                    target=self._pass, args=(server, client, self.most_down, "close"), daemon=True
                )
                down.start()
                self._pass(client, server, self.most_up, self.behind_them)
                down.join(20)

    def _pass(self, source: socket.socket, target: socket.socket, most: int | None, behind: str) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                if most is self.most_down and not self.is_reply():
                    target.sendall(data)
                    continue
                room = len(data) if most is None else max(0, most - passed)
                target.sendall(data[:room])
                passed += len(data)
                if most is not None and passed >= most and behind != "swallow":
                    time.sleep(4 if behind == "stall" else 0)
                    source.shutdown(socket.SHUT_RDWR)
                    break
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR if most is not None else socket.SHUT_WR)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    server = Proxy()
    threading.Thread(target=server.run, daemon=True).start()
    yield server
    with contextlib.suppress(OSError):
        server.listener.shutdown(socket.SHUT_RDWR)
    server.listener.close()


@pytest.fixture
def api(certificates):
    def reply(asked: list[str]) -> dict:
        # Of some size, so that a part of it is a whole record of TLS.
        contact = {"full_name": "Ann", "note": "x" * 100_000}
        return records(*({"value": value, "enriched_contact": contact} for value in asked))

    with answering(reply, certificate=certificates["good"]) as vendor:
        yield vendor


@pytest.fixture
def client(api, proxy, certificates):
    def make(timeout: float = 5.0, user: str = "") -> Client:
        address = proxy.url.replace("http://", f"http://{user}")
        bundle = str(certificates["authority"])
        return Client(
            base_url=api.url, api_key="canary-key", timeout=timeout, proxy=address, ca_bundle=bundle
        )

    return make


FORM = b"query_list=%5B%7B%22value%22%3A%22a%22%7D%5D"


def test_the_request_goes_through_the_tunnel_and_the_proxy_sees_neither_key_nor_people(
    client, proxy, api, caplog
):
    caplog.set_level(0)
    reply = client(user="us%C3%A9r:canary%40word@").send(FORM)
    assert isinstance(reply, Reply)
    assert (reply.status, reply.request_left, judge(reply)) == (200, True, "answered")
    (head,) = proxy.heads
    assert head.startswith(b"CONNECT 127.0.0.1:")
    assert base64.b64encode("usér:canary@word".encode()) in head
    assert b"canary-key" not in head
    assert "canary" not in caplog.text
    assert api.asked == [["a"]]
    assert "authorization" not in api.heads[0].lower()


def test_a_proxy_without_a_user_is_told_of_none(client, proxy):
    client().send(FORM)
    assert b"authorization" not in proxy.heads[0].lower()


@pytest.mark.parametrize(
    ("status", "words"),
    [(407, "user name and password"), (403, "let this machine reach"), (400, "another proxy"), (404, "HTTP 404")],
)  # fmt: skip
def test_a_proxy_that_will_not_connect_is_a_wrong_setting(client, proxy, api, status, words):
    proxy.answers = [b"HTTP/1.1 %d canary jane@firm.example\r\nX: canary\r\n\r\ncanary" % status]
    with pytest.raises(ConfigError, match=words) as told:
        client(user="canary:canary@").send(FORM)
    assert "canary" not in str(told.value)
    assert (len(proxy.heads), api.asked) == (1, [])


@pytest.mark.parametrize("status", [502, 503, 504, 429, 408, 302, 100, 204])
def test_a_proxy_that_cannot_connect_now_leaves_nothing_in_doubt(client, proxy, api, status):
    proxy.answers = [b"HTTP/1.1 %d No\r\n\r\n" % status]
    assert client().send(FORM) == NoReply(False, f"the proxy answered HTTP {status}")
    assert api.asked == []


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 2", b"\r\n" * 9, b"HTTP/1.1 200 " + b"x" * 99_999]
)
def test_a_proxy_that_speaks_something_else_leaves_nothing_in_doubt(client, proxy, api, answer):
    proxy.answers = [answer]
    outcome = client(timeout=2.0).send(FORM)
    assert isinstance(outcome, NoReply)
    assert not outcome.request_left
    assert api.asked == []


def test_no_proxy_there_leaves_nothing_in_doubt(client, proxy):
    proxy.listener.shutdown(socket.SHUT_RDWR)
    proxy.listener.close()
    assert client().send(FORM) == NoReply(False, "the proxy cannot be reached")


def drip(what: bytes) -> Callable[[socket.socket], None]:
    def then(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            for byte in what * 20:
                connection.sendall(bytes([byte]))
                time.sleep(0.05)

    return then


@pytest.mark.parametrize(
    "then", [lambda _: time.sleep(5), drip(b"HTTP/1.1 200 "), drip(CONNECTED[:-2] + b"A: b\r\n")],
    ids=["silence", "a drip of its status", "a drip of its headers"],
)  # fmt: skip
def test_a_proxy_that_hangs_is_cut_off_at_the_deadline(client, proxy, api, then):
    proxy.answers, proxy.unanswered = [b""], then
    started = time.monotonic()
    outcome = client(timeout=1.0).send(FORM)
    assert isinstance(outcome, NoReply)
    assert not outcome.request_left
    assert time.monotonic() - started < allowed(2.5, at_most=4)
    assert api.asked == []


def test_a_tunnel_in_which_tls_drips_is_cut_off_at_the_deadline(client, proxy):
    proxy.answers = [b""]
    proxy.unanswered = lambda connection: (
        connection.sendall(CONNECTED),
        drip(b"\x16\x03\x03\x40\x00\x02")(connection),
    )
    started = time.monotonic()
    outcome = client(timeout=1.0).send(FORM)
    assert isinstance(outcome, NoReply)
    assert not outcome.request_left
    assert time.monotonic() - started < allowed(2.5, at_most=4)


def test_a_tunnel_that_is_cut_in_mid_body_leaves_nothing_in_doubt(client, proxy, api):
    proxy.most_up = 60_000
    outcome = client().send(BODY)
    assert isinstance(outcome, NoReply)
    assert not outcome.request_left
    assert api.asked == []


def test_a_proxy_that_stops_reading_in_mid_body_leaves_nothing_in_doubt(client, proxy, api):
    proxy.most_up, proxy.behind_them = 60_000, "stall"
    outcome = client(timeout=2.0).send(BODY * 20)
    assert isinstance(outcome, NoReply)
    assert not outcome.request_left
    assert api.asked == []


def test_a_proxy_that_swallows_the_whole_body_leaves_it_in_doubt(client, proxy):
    # Whether it passed it on cannot be told from here.
    proxy.most_up, proxy.behind_them = 60_000, "swallow"
    outcome = client(timeout=2.0).send(BODY)
    assert isinstance(outcome, NoReply)
    assert outcome.request_left


def test_a_tunnel_that_is_cut_behind_the_whole_body_leaves_it_in_doubt(client, proxy, api):
    proxy.most_down, proxy.is_reply = 1, lambda: bool(api.asked)
    outcome = client().send(FORM)
    assert isinstance(outcome, NoReply)
    assert outcome.request_left
    assert api.asked == [["a"]]


def test_what_came_of_a_reply_before_the_tunnel_was_cut_is_kept(client, proxy, api):
    proxy.most_down, proxy.is_reply = 40_000, lambda: bool(api.asked)
    outcome = client().send(FORM)
    assert isinstance(outcome, Reply)
    assert (outcome.complete, outcome.request_left, len(outcome.body) > 10_000) == (False, True, True)


def enriched(enricher, api, **settings) -> list[str]:
    buyer = enricher(api, timeout=5.0, **settings)
    return buyer.enrich_dataframe(pd.DataFrame({"email": ["ann@firm.example"]}))["eb_status"].tolist()


def test_a_run_goes_on_once_the_proxy_connects(enricher, api, proxy, certificates):
    proxy.answers = [b"HTTP/1.1 502 No\r\n\r\n", b"HTTP/1.1 503 No\r\n\r\n", CONNECTED]
    assert enriched(enricher, api, proxy=proxy.url, ca_bundle=certificates["authority"]) == ["matched"]
    assert len(api.asked) == 1


def test_proxy_and_bundle_are_read_from_the_environment(
    enricher, api, proxy, certificates, monkeypatch, tmp_path
):
    monkeypatch.setenv("EB_DAGSTER_PROXY", proxy.url)
    monkeypatch.setenv("EB_DAGSTER_CA_BUNDLE", str(certificates["authority"]))
    assert enriched(enricher, api) == ["matched"]
    assert len(proxy.heads) == 1
    # Given as empty, there is none.
    assert enriched(enricher, api, proxy="", ledger=tmp_path / "other.db") == ["matched"]
    assert len(proxy.heads) == 1


def test_plain_http_to_this_machine_goes_there_directly(enricher, stand_in, proxy):
    assert set(enriched(enricher, stand_in(match_rate=1.0), proxy=proxy.url)) == {"matched"}
    assert proxy.heads == []


@pytest.mark.parametrize("named", [(), ("HTTPS_PROXY",), ("all_proxy",), ("HTTP_PROXY", "https_proxy")])
def test_proxies_of_the_environment_are_named_when_the_api_cannot_be_reached(monkeypatch, named, proxy):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name in named:
        monkeypatch.setenv(name, proxy.url)
    client = Client(base_url="https://127.0.0.1:9", api_key="k", timeout=1.0)
    assert isinstance(client.send(FORM), NoReply)
    assert all(name in client.unreachable for name in named)
    assert ("EB_DAGSTER_PROXY" in client.unreachable) is bool(named)
    assert "127.0.0.1" not in client.unreachable
    assert proxy.heads == []


# The settings


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("http://proxy.corp:3128", "http://proxy.corp:3128"),
        (" http://proxy.corp:3128/ ", "http://proxy.corp:3128"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("http://jane:p@ss@proxy:80", "http://jane:p%40ss@proxy:80"),
        ("http://jane:p%40ss@proxy:80", "http://jane:p%40ss@proxy:80"),
        ("http://jane@proxy:80", "http://jane:@proxy:80"),
        ("", None),
        ("  ", None),
    ],
)
def test_a_proxy_has_one_spelling(given, read):
    assert read_proxy(given) == read


@pytest.mark.parametrize(
    "given",
    [
        "canary:3128", "canary", "http://canary", "https://canary:3128", "socks5://u:canary@h:1", "http://:3128",
        "http://u:canary@", "http://h:99999", "http://h:canary", "http://h:80/canary", "http://h:80?canary",
        "http://h:80#canary", "http://u:can/ary@h:80", "http://[canary:80", "http://can ary:80", "ftp://canary:21",
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_in_environment", [False, True])
def test_what_is_no_proxy_is_refused_without_being_shown(given, is_in_environment, monkeypatch):
    monkeypatch.setenv("EB_DAGSTER_PROXY", given)
    with pytest.raises(ConfigError, match="EB_DAGSTER_PROXY" if is_in_environment else "proxy") as told:
        read_proxy(None if is_in_environment else given)
    assert "canary" not in str(told.value)
    assert "http://host:port" in str(told.value)


def test_no_repr_shows_the_password():
    settings = read_settings(
        api_key="k", base_url=None, proxy="http://jane:canary@h:1", ca_bundle=None, required_fields=(), aliases=(),
        columns=None, default_region=None, identifiers=None, max_credits=None, over_budget="stop", max_age=None,
        retry_misses_after=None, partition_size=1, requests_per_minute=1, max_credits_at_risk=1, timeout=1,
        in_doubt="hold", prefix="eb_", progress=None,
    )  # fmt: skip
    assert "canary" not in repr(settings)


@pytest.mark.parametrize("what", ["nowhere", "a folder", "text", "binary", "empty", "a pipe", "NUL"])
def test_a_bundle_that_is_none_is_a_wrong_setting_at_opening(enricher, stand_in, tmp_path, what):
    path = tmp_path / "bundle"
    if what == "a folder":
        path.mkdir()
    elif what == "a pipe":
        os.mkfifo(path)
    elif what == "NUL":
        path = f"{path}\0"
    elif what != "nowhere":
        path.write_bytes({"text": b"no PEM", "binary": bytes(range(256)), "empty": b""}[what])
    with pytest.raises(ConfigError, match="ca_bundle does not name a PEM file"):
        enricher(stand_in(), ca_bundle=path)
    assert not (tmp_path / "ledger.db").exists()


def test_a_bundle_may_be_named_relative_to_where_the_run_begins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_ca_bundle("authority.pem") == str(tmp_path / "authority.pem")


# Whom the certificate names


@pytest.mark.parametrize(("certificate", "is_trusted"), [("localhost", True), ("common name", False)])
def test_a_certificate_names_its_host_in_its_alternative_names(certificates, certificate, is_trusted):
    with answering(lambda _: records(), certificate=certificates[certificate], host="localhost") as api:
        client = Client(base_url=api.url, api_key="k", timeout=5.0, ca_bundle=str(certificates["authority"]))
        if is_trusted:
            assert isinstance(client.send(FORM), Reply)
        else:
            with pytest.raises(ConfigError, match="ca_bundle"):
                client.send(FORM)
            assert api.asked == []


def test_no_keys_of_a_session_are_written(certificates, monkeypatch, tmp_path, api):
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    client = Client(base_url=api.url, api_key="k", timeout=5.0, ca_bundle=str(certificates["authority"]))
    assert isinstance(client.send(FORM), Reply)
    trust = client.open()._trust
    assert trust is not None
    assert trust.keylog_filename is None
    assert not (tmp_path / "keys").exists()


@pytest.mark.parametrize(
    ("variable", "is_honoured"),
    [("SSL_CERT_FILE", True), ("REQUESTS_CA_BUNDLE", True), ("CURL_CA_BUNDLE", False)],
)
def test_authorities_of_the_environment(certificates, api, monkeypatch, variable, is_honoured):
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(certificates["authority"]))
    client = Client(base_url=api.url, api_key="k", timeout=5.0)
    if is_honoured:
        assert isinstance(client.send(FORM), Reply)
    else:
        with pytest.raises(ConfigError, match="cannot be trusted"):
            client.send(FORM)
