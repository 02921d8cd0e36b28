"""Beside whom identifiers stand, as rows tell it."""

from hypothesis import given
from hypothesis import strategies as st

from eb_dagster.identifiers.kinds import trait_of
from eb_dagster.identifiers.model import Candidates, Identifier, Trait
from eb_dagster.identifiers.names import RowPerson, tokens
from eb_dagster.ledger.companions import pack_person
from eb_dagster.pipeline.eligibility import companions_in
from tests.pipeline.tables import Hashes, keyed_offers

IDENTIFIERS = [
    *(Identifier("social_profile", f"linkedin.com/in/{name}") for name in ("ada", "bob", "ACwAAA0123456789")),
    *(Identifier("email", f"{name}@corp.example") for name in ("ada", "bob", "info")),
    *(Identifier("phone", f"+1202555010{number}") for number in range(2)),
]
OFFERED = st.lists(st.sampled_from(IDENTIFIERS), unique=True, max_size=5).map(tuple)
PERSONS = st.none() | st.builds(RowPerson, st.sampled_from(["Ada Low", "Bob"]), st.just(""))


def one_by_one(rows):
    """The same, from one row after the other."""
    key = Hashes.hasher
    companions = {}
    for row in rows:
        of_trait = {trait: [] for trait in Trait}
        for identifier in row.identifiers:
            of_trait[trait_of(identifier)].append(key(identifier.field_type)(identifier.value))
        profiles, emails = of_trait[Trait.VANITY], of_trait[Trait.EMAIL]
        names = [key("name")(word) for word in tokens(row.person.name)] if row.person else []
        if profiles:
            for email in emails:
                companions.setdefault(email, set()).add(pack_person(profiles, (), ()))
        if profiles or emails or names:
            for phone in of_trait[Trait.PHONE]:
                companions.setdefault(phone, set()).add(pack_person(profiles, emails, names))
    return companions


@given(st.lists(OFFERED))
def test_rows_in_bulk_say_what_each_row_says_alone(rows):
    candidates = [Candidates(row, ()) for row in rows]
    assert companions_in(keyed_offers(candidates), Hashes.hasher("name")) == one_by_one(candidates)


@given(st.lists(st.tuples(OFFERED, PERSONS)))
def test_a_name_tells_people_apart_beside_a_phone(rows):
    candidates = [Candidates(row, (), person) for row, person in rows]
    assert companions_in(keyed_offers(candidates), Hashes.hasher("name")) == one_by_one(candidates)
