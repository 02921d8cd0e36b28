"""What the tests of the ledger do in common: the steps of a request, as a run takes them."""

import time
from contextlib import closing, suppress
from multiprocessing.connection import Connection
from typing import Any

from eb_dagster.identifiers.model import Identifier
from eb_dagster.ledger.budget import Limits
from eb_dagster.ledger.entries import pack_aliases, pack_outcomes
from eb_dagster.ledger.ledger import Ledger

ENDPOINT = "http://127.0.0.1:1/v1/bulk-enrich"
PLENTY = Limits(max_credits=None, max_credits_at_risk=20_000)
JANE, JOHN = Identifier("email", "jane@firm.example"), Identifier("email", "john@firm.example")
PEOPLE = [Identifier("email", f"p{number}@firm.example") for number in range(4)]


def claim(ledger: Ledger, *identifiers: Identifier, run: str = "r", limits: Limits = PLENTY, **more) -> Any:
    # Any: a claim has no request where nothing was granted, and each test knows which it is.
    keys = [ledger.key(identifier) for identifier in identifiers]
    seen = more.pop("seen") if "seen" in more else ledger.last_request()
    return ledger.claim(keys, run=run, required=more.pop("required", 0), limits=limits, seen=seen, **more)


def claim_emails(ledger: Ledger, *addresses: str, **more) -> Any:
    return claim(ledger, *[Identifier("email", address) for address in addresses], **more)


def known(ledger: Ledger, identifier: Identifier, *, required: int = 0) -> Any:
    key = ledger.key(identifier)
    return ledger.lookup([key], required=required, alias_keys=[key])[0].get(key)


HOLDS_EMAIL = 1


def aliases_of(ledger: Ledger, *identifiers: Identifier, person: int):
    count = len(identifiers)
    return pack_aliases(
        [ledger.key(identifier) for identifier in identifiers],
        [0] * count,
        [HOLDS_EMAIL] * count,
        [person] * count,
    )


def answer(ledger: Ledger, request_id: int, *positions: int, aliases=None) -> None:
    ledger.record(request_id, http_status=200, encoding="", complete=True, body=b"raw")
    ledger.apply(
        request_id, outcomes=pack_outcomes(positions, [HOLDS_EMAIL] * len(positions)),
        aliases=pack_aliases([], [], [], []) if aliases is None else aliases, records_enriched=1,
    )  # fmt: skip


def no_session_is_left(url: str, *, but: int = 0) -> bool:
    """Whether all sessions on a database end (`but` so many), within the moment that the server takes for it."""
    import psycopg

    query = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    deadline = time.monotonic() + 10
    with psycopg.connect(url, autocommit=True) as connection:
        while len(connection.execute(query).fetchall()) > but:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
    return True


def asked(ledger: Ledger, *people: Identifier, resend: bool = False) -> Any:
    # Any: there is no request where nothing was granted, and each test knows which it is.
    keys = [ledger.key(person) for person in people]
    run = "another" if resend else "r"
    return ledger.claim(keys, run=run, required=0, limits=PLENTY, seen=0, resend=resend).request_id


def answered(ledger: Ledger, positions: list[int], body: bytes = b"raw", *, count: int | None = None) -> int:
    """A request whose reply was read to these outcomes."""
    request_id = asked(ledger, *PEOPLE[: len(positions)])
    ledger.record(request_id, http_status=200, encoding="", complete=True, body=body)
    ledger.apply(
        request_id, outcomes=pack_outcomes(positions, [0] * len(positions)),
        aliases=pack_aliases([], [], [], []), records_enriched=count,
    )  # fmt: skip
    return request_id


def standings(ledger: Ledger) -> list[str | None]:
    keys = [ledger.key(person) for person in PEOPLE]
    found = ledger.lookup(keys, required=0)[0].of(keys)
    return [None if known is None else known.standing for known in found]


def claim_forty(pipe: Connection, where: str, run: str) -> None:
    """As a process of its own: open a ledger when told to, claim forty people one by one, and tell how many."""
    pipe.recv()
    with closing(Ledger(where, endpoint=ENDPOINT)) as ledger:
        claims = [claim_emails(ledger, f"p{number}@firm.example", run=run, seen=0) for number in range(40)]
        pipe.send(sum(claimed.granted for claimed in claims))
        # Until all are done: what a process that is gone had claimed is in doubt, and not the others' either.
        with suppress(EOFError):
            pipe.recv()
