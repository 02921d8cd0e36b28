from collections import Counter

import numpy as np
import pytest

from tests.benchmarks.vendor import Account, Knowledge, Vendor, as_one
from tests.benchmarks.world import PAIRS, REFRESH_WEEKS, WEEKS, World
from tests.benchmarks.year import Answer, Cache, Sample, Verdicts, live, run_year

# One year is lived for all.
pytestmark = pytest.mark.xdist_group("year")

ROWS = 3_000


@pytest.fixture(scope="module")
def world() -> World:
    return World(people=500, seed=1)


@pytest.fixture(scope="module")
def lived() -> dict[str, Verdicts]:
    return run_year(rows=ROWS)


def test_a_year_is_the_same_for_the_same_seed():
    def texts(seed: int) -> list[str]:
        tables = World(people=200, seed=seed).year(rows=1_500, seed=seed)
        return [table.frame.to_csv() + str(table.truth) for together in tables for table in together]

    assert texts(1) == texts(1)
    assert texts(1) != texts(2)


def test_a_year_has_every_kind_of_table(world):
    year_of = list(world.year(rows=6_000, seed=1))
    tables = [table for together in year_of for table in together]
    assert len(tables) == WEEKS + PAIRS + WEEKS // REFRESH_WEEKS
    assert {table.source for table in tables} == {"crm", "event", "dialler"}
    assert {table.crash for table in tables} == {None, "charged", "free", "torn"}
    assert sum(table.is_refresh for table in tables) == 13
    assert any(table.required for table in tables)
    assert sum(len(together) == 2 for together in year_of) == PAIRS
    assert all(len(table.truth) == len(table.frame) == len(table.shared) for table in tables)
    share = np.mean([is_shared for table in tables for is_shared in table.shared])
    assert 0.02 < share < 0.25


@pytest.mark.parametrize(
    ("kind", "written", "plain"),
    [
        ("email", " J.Doe+crm@GoogleMail.com ", "jdoe@gmail.com"),
        ("email", "mailto:jane.doe@firm.com", "jane.doe@firm.com"),
        ("email", "jane+x@firm.com", "jane+x@firm.com"),
        ("phone", "(212) 200-0007", "+12122000007"),
        ("phone", "1 212.200.0007", "+12122000007"),
        ("social_profile", "https://www.LinkedIn.com/in/Jane-Doe/?trk=a", "linkedin.com/in/jane-doe"),
        ("social_profile", "https://uk.linkedin.com/in/jane-doe/", "linkedin.com/in/jane-doe"),
        ("social_profile", "/in/jane-doe", "linkedin.com/in/jane-doe"),
        ("social_profile", "https://x.com/Jane", "twitter.com/jane"),
    ],
)
def test_spellings_of_one_identifier_are_one(kind, written, plain):
    assert as_one(kind, written) == (kind, plain)


def test_a_row_is_judged_by_whom_it_is_about(world):
    table = next(world.year(rows=750, seed=1))[0]
    table.truth[:4], table.shared[:4] = [1, 2, 3, 4], [False, False, True, False]
    answers = [
        Answer("matched", 1),
        Answer("matched", 9, ("email", "a@b.com"), is_from_ledger=True),
        Answer("matched", 9),
        Answer("not_found"),
        *[Answer("not_found")] * (len(table.truth) - 4),
    ]
    verdicts = Verdicts()
    verdicts.judge(table, answers, asked=set())
    assert (verdicts.right, verdicts.wrong, verdicts.wrong_shared, verdicts.wrong_aliases) == (1, 1, 1, 1)
    again = Verdicts()
    again.judge(table, answers, asked={("email", "a@b.com")})
    assert (again.wrong, again.aliases) == (1, 0)


def test_whoever_knew_everybody_would_have_no_wrong_row(world):
    tables = [list(together) for together in world.year(rows=1_500, seed=1)]

    class Seer:
        def __init__(self) -> None:
            self.told = Counter[str]()

        def enrich(self, together, *, cutoff):
            del cutoff
            return [[Answer("matched", person) for person in table.truth] for table in together]

        def settle(self, account: Account) -> None:
            assert not account.bill

    with Vendor(Knowledge(world, seed=1)) as vendor:
        verdicts = live(Seer(), vendor, tables)
    assert verdicts.right == verdicts.rows - verdicts.shared
    assert verdicts.right_shared == verdicts.shared > 0
    assert verdicts.wrong == verdicts.wrong_shared == 0


def test_every_credit_is_on_the_bill_by_person(world, tmp_path):
    table = next(
        candidate
        for together in world.year(rows=6_000, seed=1)
        for candidate in together
        if candidate.source == "crm"
    )
    with Vendor(Knowledge(world, seed=1)) as vendor:
        for contestant in (Sample(vendor.url, tmp_path), Cache(vendor.url, tmp_path)):
            vendor.account = Account()
            vendor.begin(table)
            (answers,) = contestant.enrich([table], cutoff=None)
            found = {answer.person for answer in answers} - {None}
            assert found
            assert found <= vendor.account.bought.keys()
            assert vendor.account.bought.total() >= len(found)


def test_a_year_with_the_ledger_costs_less_and_finds_more_than_plain_scripts(lived):
    keys, sample, cache = lived["keys"], lived["sample"], lived["cache"]
    assert keys.right > max(sample.right, cache.right)
    assert keys.credits_a_person < cache.credits_a_person < sample.credits_a_person
    assert keys.ended["stopped"] == keys.ended["unreadable"] == 0


@pytest.mark.parametrize(("name", "wrong", "credits"), [("keys", 0.4, 1.27), ("person", 0.1, 1.11)])
def test_a_year_keeps_its_bounds(name, wrong, credits, lived):  # noqa: A002 - the field's word
    # In so short a year, one row is 0.04 %.
    verdicts = lived[name]
    assert verdicts.wrong_share < wrong
    assert verdicts.wrong_aliases <= 1
    assert verdicts.credits_a_person < credits
    assert verdicts.right > 0.47 * verdicts.rows
