"""Who a contact answers for."""

import numpy as np

from eb_dagster.identifiers.arrays import text_array
from eb_dagster.identifiers.model import Identifier
from eb_dagster.ledger.aliases import Values
from tests.ledger.steps import JANE, JOHN, aliases_of, answer, claim, known


def test_an_alias_of_one_person_answers_and_one_of_two_does_not(ledger):
    first, second = claim(ledger, JANE), claim(ledger, JOHN)
    shared, own = Identifier("email", "info@firm.example"), Identifier("email", "j@home.example")
    answer(ledger, first.request_id, 0, aliases=aliases_of(ledger, own, shared, person=1))
    assert known(ledger, shared).is_alias
    answer(ledger, second.request_id, 0, aliases=aliases_of(ledger, shared, person=2))
    assert known(ledger, own).is_alias
    assert known(ledger, shared) is None


def test_identifiers_inside_contacts_are_not_printed():
    assert "canary" not in repr(Values(text_array(["canary@firm.example"]), np.array([0])))
