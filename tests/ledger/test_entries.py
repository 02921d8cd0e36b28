"""The identifiers of one request, packed."""

from eb_dagster.api.envelope import RequiredField
from eb_dagster.ledger.entries import OUTCOME, VANITY


def test_the_bits_that_ledgers_keep_of_a_contact_are_distinct_and_never_change():
    kept = {field.name: field.value for field in RequiredField}
    assert kept == {"EMAIL": 1, "WORK_EMAIL": 2, "PERSONAL_EMAIL": 4, "PHONE": 8, "SOCIAL_PROFILE": 16}
    assert VANITY == 32
    bits = [*kept.values(), VANITY]
    assert sum(bits) == 2 ** len(bits) - 1
    assert sum(bits) < 256 ** OUTCOME["held"].itemsize
