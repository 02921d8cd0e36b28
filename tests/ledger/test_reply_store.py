"""Raw replies, as they are stored."""

import sqlite3
import traceback
from contextlib import closing

import pytest

from eb_dagster import LedgerError
from eb_dagster.identifiers.model import Identifier
from eb_dagster.ledger.ledger import Ledger
from tests.ledger.steps import ENDPOINT, JANE, answer, claim


def test_replies_come_in_the_order_that_they_are_asked_for_and_one_that_is_gone_is_named(ledger):
    people = [Identifier("email", f"p{number}@firm.example") for number in range(20)]
    requests = [claim(ledger, person).request_id for person in people]
    for request_id in requests:
        ledger.record(request_id, http_status=200, encoding="", complete=True, body=b"reply %d" % request_id)
    wanted = [*reversed(requests), *requests[3:12], requests[3]]
    assert [reply.body for reply in ledger.replies(wanted)] == [
        b"reply %d" % request_id for request_id in wanted
    ]
    with ledger.database.transaction() as connection:
        connection.exec_driver_sql(f"DELETE FROM replies WHERE request_id = {requests[11]}")
    left = ledger.replies(requests)
    assert [next(left).request_id for _ in range(11)] == requests[:11]
    with pytest.raises(LedgerError, match=f"request {requests[11]} is gone"):
        next(left)


def test_a_reply_whose_encoding_changed_is_noticed(tmp_path):
    with closing(Ledger(tmp_path / "l.db", endpoint=ENDPOINT)) as ledger:
        answer(ledger, claim(ledger, JANE).request_id, 0)
        with closing(sqlite3.connect(tmp_path / "l.db")) as connection:
            connection.execute("UPDATE replies SET encoding = 'gzip'")
            connection.commit()
        with pytest.raises(LedgerError, match="damaged"):
            next(ledger.replies([1]))


def test_a_reply_that_cannot_be_decoded_is_in_no_message(tmp_path):
    with closing(Ledger(tmp_path / "l.db", endpoint=ENDPOINT)) as ledger:
        answer(ledger, claim(ledger, JANE).request_id, 0)
        with closing(sqlite3.connect(tmp_path / "l.db")) as connection:
            connection.execute("UPDATE replies SET body = CAST(? AS TEXT)", (b"canary person \xff",))
            connection.commit()
        with pytest.raises(LedgerError, match="cannot be read") as error:
            next(ledger.replies([1]))
    assert "canary" not in "".join(traceback.format_exception(error.value))
