"""Rows that the ledger ends, all at once: each as the agenda would end it alone."""

import hashlib
import json
from collections import Counter
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eb_dagster import Enricher
from eb_dagster.contacts.schema import arrow_schema
from eb_dagster.identifiers.model import Candidates, Identifier
from eb_dagster.ledger.budget import Limits
from eb_dagster.ledger.known_keys import STANDINGS, KnownKeys, RequestFacts
from eb_dagster.pipeline.agenda import Agenda
from eb_dagster.pipeline.offers import Offers
from eb_dagster.pipeline.output import Finisher
from eb_dagster.pipeline.plan import PlanCount
from eb_dagster.pipeline.purchase import Lookup, Purchase
from eb_dagster.pipeline.report import Report

EVERYBODY = [
    *(Identifier("email", f"{name}@firm.example") for name in "abcd"),
    *(Identifier("phone", f"+1202555010{digit}") for digit in range(3)),
    *(Identifier("social_profile", f"linkedin.com/in/{name}") for name in "xyz"),
]
REASONS = st.sampled_from([(), (), ("email_syntax",), ("blank",), ("phone_syntax", "email_syntax")])
OFFERS = st.builds(
    Candidates, st.lists(st.sampled_from(EVERYBODY), unique=True, max_size=4).map(tuple), REASONS
)
# Some rows share what they offer as one object, as equal cells do; others offer the same in another.
BLOCKS = st.lists(OFFERS, max_size=6).flatmap(
    lambda offers: st.lists(
        st.lists(st.sampled_from([*offers, Candidates((), ("blank",))]), max_size=8), max_size=4
    )
)
EARLIER, MINE = range(2)
# Those without an answer stand two behind those of the same run that have one.
REQUESTS = [
    RequestFacts(1, "earlier", 10.0),
    RequestFacts(2, "mine", 20.0),
    RequestFacts(3, "earlier", None),
    RequestFacts(4, "mine", None),
]
KNOWN = st.tuples(
    st.integers(-1, len(STANDINGS) - 1), st.sampled_from([EARLIER, MINE]), st.booleans(), st.booleans()
)


def key_of(identifier: Identifier) -> bytes:
    return hashlib.blake2b(identifier.value.encode(), digest_size=16).digest()


def known_keys(identifiers, table) -> KnownKeys:
    """What `table` knows of these, as the ledger would tell it."""
    told = np.array([table[identifier] for identifier in identifiers], dtype=np.int64).reshape(-1, 4)
    standing, number, is_alias, is_stale = told.T
    is_matched = standing == STANDINGS.index("matched")
    unanswered = np.isin(standing, [STANDINGS.index(name) for name in ("in_flight", "in_doubt", "decided")])
    position = np.array([EVERYBODY.index(identifier) for identifier in identifiers], dtype=np.int32)
    return KnownKeys(
        [key_of(identifier) for identifier in identifiers], REQUESTS,
        standing=standing.astype(np.int8),
        request_index=np.where(standing < 0, -1, number + 2 * unanswered).astype(np.int32),
        position=np.where(is_matched, position, -1).astype(np.int32),
        is_alias=is_matched & (is_alias > 0), is_stale=is_matched & (is_stale > 0),
        is_of_two=np.zeros(len(identifiers), dtype=np.bool_), has_vanity=is_matched & (number > 0),
    )  # fmt: skip


@pytest.fixture(scope="module", params=["hold", "resend"])
def enricher(request, tmp_path_factory):
    """With two replies in its ledger, in which everybody was found."""
    place = tmp_path_factory.mktemp("settled") / "ledger.db"
    with Enricher(
        api_key="no key", base_url="http://127.0.0.1:1", ledger=place, in_doubt=request.param, progress=False
    ) as buyer:
        for number in (1, 2):
            entries = [
                {"value": str(index), "enriched_contact": {"full_name": f"{number}/{index}", "shoes": index}}
                for index in range(len(EVERYBODY))
            ]
            keys = [bytes([number, index]) * 8 for index in range(len(EVERYBODY))]
            buyer._ledger.claim(keys, run="earlier", required=0, limits=Limits(None, 1000), seen=number - 1)
            buyer._ledger.record(
                number, http_status=200, encoding="", complete=True,
                body=json.dumps({"contacts": entries}).encode(),
            )  # fmt: skip
        yield buyer


def purchase(enricher, agenda, report):
    buying = Purchase(
        settings=enricher._settings, ledger=enricher._ledger, client=enricher._client,
        agenda=agenda, report=report,
    )  # fmt: skip
    buying.run = "mine"
    return buying


def take_in(agenda, buying, rows, table, suppressed, *, at_once):
    """A block of these rows, looked up and not started."""
    offers = Offers(rows, lambda identifiers: [key_of(identifier) for identifier in identifiers])
    lookup = Lookup(
        known_keys(offers.identifiers, table),
        len(REQUESTS),
        {key_of(identifier) for identifier in suppressed},
    )
    settlement = buying.settle(offers, lookup) if at_once else None
    keys = (
        settlement.open_keys() if settlement else {identifier: key_of(identifier) for identifier in EVERYBODY}
    )
    block = agenda.add(rows, keys, settlement=settlement)
    buying.open(block.new, lookup)
    return block


class Taken:
    """Blocks that were taken in, rows that the ledger ends all at once or one by one."""

    def __init__(self, enricher, blocks, table, suppressed, *, at_once, leave):
        self.agenda, self.report = Agenda(), Report()
        buying = purchase(enricher, self.agenda, self.report)
        self.figures, self.batches, self.asked = [], [], []
        with Finisher(enricher._ledger, arrow_schema(), columns=None, prefix="eb_") as finisher:
            for rows in blocks:
                block = take_in(self.agenda, buying, rows, table, suppressed, at_once=at_once)
                self.agenda.start(block)
                self.figures.append((block.identifiers, block.folded, block.statuses))
                if leave == "the others":
                    open_rows = [row for other in [*self.agenda.blocks][:-1] for row in other.rows]
                    for row in open_rows:
                        while row.status is None:
                            waits = next(
                                question
                                for question in row.questions
                                if question.state in ("queued", "elsewhere")
                            )
                            self.agenda.settle(waits, "not_asked")
                if leave != "none":
                    self.finish(finisher)
            # Nothing is sent: what is asked, here or by another process, stays unasked.
            while not all(block.is_resolved for block in self.agenda.blocks):
                self.asked += self.not_asked([*self.agenda._questions.values()])
            self.finish(finisher)
        buying.finish()

    def not_asked(self, questions):
        while (step := self.agenda.first_step()) is not None:
            (question,) = self.agenda.cut_step(step, 1)
            self.agenda.settle(question, "not_asked")
            yield question.identifier
        for question in questions:
            if question.state == "elsewhere":
                self.agenda.settle(question, "not_asked")

    def finish(self, finisher):
        self.batches += [
            finisher.finish(block, run="mine", report=self.report) for block in self.agenda.leaving()
        ]


TABLES = st.fixed_dictionaries(dict.fromkeys(EVERYBODY, KNOWN))
SUPPRESSED = st.just(set()) | st.sets(st.sampled_from(EVERYBODY), max_size=3)


@settings(max_examples=400, deadline=None)
@given(
    blocks=BLOCKS,
    table=TABLES,
    suppressed=SUPPRESSED,
    leave=st.sampled_from(["none", "who may", "the others"]),
)
def test_rows_that_the_ledger_ends_at_once_end_as_they_would_one_by_one(
    enricher, blocks, table, suppressed, leave
):
    at_once, alone = (
        Taken(enricher, blocks, table, suppressed, at_once=way, leave=leave) for way in (True, False)
    )
    assert at_once.figures == alone.figures
    assert at_once.asked == alone.asked
    assert at_once.batches == alone.batches
    assert sum(batch.num_rows for batch in at_once.batches) == sum(map(len, blocks))
    assert at_once.report.to_dict() == alone.report.to_dict()
    useless = [row for rows in blocks for row in rows if not row.identifiers]
    assert at_once.report.invalid == Counter(row.reasons[0] if row.reasons else "blank" for row in useless)


def planned(enricher, blocks, table, suppressed, *, at_once):
    agenda, count = Agenda(), PlanCount()
    buying = purchase(enricher, agenda, Report())
    for rows in blocks:
        block = take_in(agenda, buying, rows, table, suppressed, at_once=at_once)
        count.expect(block.new)
        agenda.start(block)
        count.add(block, agenda.clear())
    buying.finish()
    return count.plan(
        partition_size=3, max_credits=None, max_credits_at_risk=9, requests_per_minute=198
    ).to_dict()


@settings(deadline=None)
@given(blocks=BLOCKS, table=TABLES, suppressed=SUPPRESSED)
def test_a_plan_is_the_same_whether_rows_end_at_once_or_one_by_one(enricher, blocks, table, suppressed):
    at_once, alone = (planned(enricher, blocks, table, suppressed, at_once=way) for way in (True, False))
    assert at_once == alone


def started(agenda, buying, table, *rows):
    """A block of rows that offer these identifiers, with what the table says of them."""
    block = take_in(agenda, buying, [Candidates(row, ()) for row in rows], table, set(), at_once=True)
    agenda.start(block)
    return block


def test_an_identifier_is_counted_once_as_long_as_an_open_block_offers_it(enricher):
    ada, eve, *_ = EVERYBODY
    table = dict.fromkeys(EVERYBODY, (-1, EARLIER, False, False)) | {ada: (0, EARLIER, False, False)}
    agenda = Agenda()
    buying = purchase(enricher, agenda, Report())

    def count(*rows):
        return started(agenda, buying, table, *rows).identifiers

    assert [count((ada,)), count((ada,), (eve,))] == [1, 1]
    assert len([*agenda.leaving()]) == 1
    # The second block waits for eve, and ada is in it.
    assert count((ada,), (eve,)) == 0
    agenda.clear()
    assert count((ada,), (eve,)) == 2
    buying.finish()


def test_a_question_stays_as_long_as_a_settled_row_of_an_open_block_offers_it_too(enricher):
    ada, bob, eve, *_ = EVERYBODY
    table = dict.fromkeys(EVERYBODY, (-1, EARLIER, False, False)) | {bob: (0, EARLIER, False, False)}
    agenda = Agenda()
    buying = purchase(enricher, agenda, Report())
    take = partial(started, agenda, buying, table)
    first, second = take((ada,)), take((ada, bob), (eve,))
    assert second.statuses == ["matched", None]
    (asked,) = first.new
    agenda.settle(asked, "in_doubt")
    assert [*agenda.leaving()] == [first]
    # What was learned of ada since the look-up holds for a row that comes while the second block is open.
    third = take((ada,))
    assert (third.new, third.statuses) == ([], ["in_doubt"])
    (waiting,) = second.new
    agenda.settle(waiting, "missed")
    assert [*agenda.leaving()] == [second, third]
    assert len(take((ada,)).new) == 1
    buying.finish()
