"""Jane and John, and what the tests of privacy do to them."""

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import requests

from eb_dagster.ledger import privacy
from eb_dagster.ledger.ledger import Ledger

JANE, JOHN = "jane@firm.example", "john@firm.example"


def leads(*addresses: str) -> pd.DataFrame:
    return pd.DataFrame({"id": [f"lead{n}" for n in range(len(addresses))], "email": list(addresses)})


def text_of(frame: pd.DataFrame, row: int) -> list[str]:
    """What names a person: addresses, profiles and the full name."""
    found = frame.iloc[row]
    return [
        *found["eb_emails"],
        *(profile["url"] for profile in found["eb_social_profiles"]),
        found["eb_full_name"],
    ]


def files_of(where: str, table: Path) -> list[Path]:
    beside = [] if "://" in where else list(Path(where).parent.glob(Path(where).name + "*"))
    return [path for path in (*beside, table) if path.is_file()]


def in_another_process(where: str, act: str, identifier: str) -> None:
    _other_process().submit(_act, str(where), act, identifier).result()


@cache
def _other_process() -> ProcessPoolExecutor:
    # One for all tests: it imports the package once.
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


def _act(where: str, act: str, identifier: str) -> None:
    kind = "email" if "@" in identifier else "social_profile"
    with closing(Ledger(where, endpoint="")) as ledger:
        if act == "suppress":
            privacy.suppress(ledger, [(kind, identifier)])
        else:
            privacy.forget(ledger, kind, identifier)


ACTS = pytest.mark.parametrize("act", ["suppress", "forget"])


Answer = Callable[[str, bytes, Mapping[str, str]], tuple[int, bytes]]


@contextmanager
def serving(answer: Answer) -> Iterator[SimpleNamespace]:
    """An API that answers each request, given by path, body and headers, with a status and a body."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers["Content-Length"]))
            status, body = answer(self.path, asked, dict(self.headers))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield SimpleNamespace(url=f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def holding(api, act: Callable[[], object]) -> Iterator[SimpleNamespace]:
    """Between us and the API: does something once a request was charged, before its answer goes on."""

    def answer(path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        reply = requests.post(api.url + path, data=body, headers=headers, timeout=30)
        act()
        return reply.status_code, reply.content

    with serving(answer) as between:
        yield between


def answering_with(body: bytes):
    """An API that answers everything alike."""
    return serving(lambda *_: (200, body))


def persons_name(stand_in, enricher, tmp_path, address: str) -> tuple[str, str]:
    """The full name and profile that the API gives somebody, told by a ledger that nobody looks into."""
    probe = enricher(stand_in(match_rate=1.0), ledger=tmp_path / "probe" / "ledger.db")
    row = probe.enrich_dataframe(leads(address)).iloc[0]
    return row["eb_full_name"], row["eb_linkedin_url"]
