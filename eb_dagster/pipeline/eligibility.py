"""The right person: which of a row's identifiers may be asked, and which contacts may answer for the row.

Strong identifiers are asked before a phone. A role's mailbox (`info@…`) is asked only for a row that offers
nothing else. What several people share is asked for nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from eb_dagster.api.envelope import parse_reply
from eb_dagster.contacts.flatten import Flattened
from eb_dagster.contacts.schema import NAME_COLUMNS
from eb_dagster.identifiers.canonical import identifiers_in, key_of
from eb_dagster.identifiers.company_domains import company_domain
from eb_dagster.identifiers.kinds import is_role, is_weak
from eb_dagster.identifiers.model import FieldType, Identifier, Trait
from eb_dagster.identifiers.names import RowPerson, agrees, tokens
from eb_dagster.identifiers.offers import Numbers, Offers, Reasons, ranges
from eb_dagster.identifiers.profile import is_vanity
from eb_dagster.ledger.companions import pack_people, pack_person
from eb_dagster.ledger.entries import Indices
from eb_dagster.ledger.known_keys import KnownKeys
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.ledger.replies import contact_of, decompress
from eb_dagster.pipeline.offers import Booleans, KeyedOffers
from eb_dagster.pipeline.rows import NONE

SHARED: Final = "shared"
ROLE_MAILBOX: Final = "role_mailbox"


# What may be asked


def narrowed(keyed: KeyedOffers, *, is_shared: Booleans, is_suppressed: Booleans) -> Offers:
    """Of each row's offer, what may be asked. `is_shared` and `is_suppressed` are by key.

    A row left with nothing says why. A row with a suppressed identifier keeps that identifier, and ends by it.
    """
    offers = keyed.offers
    if offers.counts.max(initial=0) <= 1 and not is_shared.any():
        return offers
    offered, counts = keyed.offered, offers.counts
    rows = np.repeat(np.arange(len(counts)), counts)
    step = np.arange(len(offered)) - np.repeat(offers.starts, counts)
    is_role = keyed.have_trait(Trait.ROLE)[offered]
    role_counts = np.bincount(rows[is_role], minlength=len(counts))
    has_only_roles = (role_counts == counts)[rows]
    # A row's own identifiers, or the first of its roles' mailboxes if it has nothing else.
    is_asked = np.where(has_only_roles, step == 0, ~is_role) & ~is_shared[offered]
    is_kept = is_asked | is_suppressed[offered]
    is_phone = keyed.have_trait(Trait.PHONE)[offered]
    # Phones come last, and before that what is kept only because it is suppressed.
    order = np.lexsort((step, ~is_asked, is_phone, rows))
    order = order[is_kept[order]]
    kept_counts = np.bincount(rows[is_kept], minlength=len(counts))
    has_shared = np.bincount(rows[is_shared[offered]], minlength=len(counts)) > 0
    has_unasked_roles = (role_counts > 0) & ((role_counts < counts) | (counts > 1))
    codes, listed = _with_reasons(offers, has_shared, has_unasked_roles, kept_counts > 0)
    return Offers(
        offers.values,
        offers.kinds,
        identifiers=offers.identifiers[order],
        counts=kept_counts,
        reasons=codes,
        reason_lists=listed,
        persons=offers.persons,
    )


def _with_reasons(
    offers: Offers, has_shared: Booleans, has_unasked_roles: Booleans, has_any: Booleans
) -> tuple[Numbers, Sequence[tuple[str, ...]]]:
    """The reasons of each row with those against what is not asked."""
    combinations, codes = np.unique(
        np.stack([offers.reasons, has_shared, has_unasked_roles, has_any], axis=1),
        axis=0,
        return_inverse=True,
    )
    reasons = Reasons()
    new_codes: list[int] = []
    listed: list[list[int]] = combinations.tolist()
    for code, is_shared, has_roles, is_left in listed:
        own = offers.reason_lists[code]
        against = (*[SHARED] * is_shared, *[ROLE_MAILBOX] * has_roles)
        # The first reason of a row without identifiers is the one that is reported.
        new_codes.append(reasons.code((*own, *against) if is_left else (*against, *own)))
    return np.array(new_codes, dtype=np.int64)[codes.reshape(-1)], reasons.listed


def _keys_by_trait(
    keys: Sequence[bytes], traits: Sequence[int], indices: Iterable[int]
) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """The keys of these vanity profiles, of e-mails and of phones."""
    by_trait: dict[int, list[bytes]] = {Trait.VANITY: [], Trait.EMAIL: [], Trait.PHONE: []}
    for index in indices:
        by_trait.setdefault(traits[index], []).append(keys[index])
    return by_trait[Trait.VANITY], by_trait[Trait.EMAIL], by_trait[Trait.PHONE]


def _hashed_name(person: RowPerson | None, hash_of: Callable[[str], bytes]) -> list[bytes]:
    return [] if person is None else [*map(hash_of, tokens(person.name))]


def companions_in(keyed: KeyedOffers, hash_of: Callable[[str], bytes]) -> dict[bytes, set[bytes]]:
    """By key of a phone or e-mail, the packed people beside whom it stands; names say nothing of an e-mail."""
    companions: dict[bytes, set[bytes]] = {}
    rows = np.flatnonzero(keyed.offers.counts > 1)
    if keyed.offers.persons is None:
        rows = _add_companions_of_plain_rows(companions, keyed, rows)
    else:
        is_named = [person is not None for person in keyed.offers.persons]
        rows = np.union1d(rows, np.flatnonzero(is_named))
    traits: list[int] = keyed.traits.tolist()
    keys: list[bytes] = keyed.keys.tolist()
    for person, indices in _offered_in(keyed, rows):
        profiles, emails, phones = _keys_by_trait(keys, traits, indices)
        names = _hashed_name(person, hash_of)
        if profiles and emails:
            _add_companions(companions, emails, [pack_person(profiles, (), ())] * len(emails))
        if phones and (profiles or emails or names):
            _add_companions(companions, phones, [pack_person(profiles, emails, names)] * len(phones))
    return companions


def _add_companions_of_plain_rows(
    companions: dict[bytes, set[bytes]], keyed: KeyedOffers, rows: Numbers
) -> Numbers:
    """Add what those of these rows say that offer one profile, one e-mail and one phone at most, as most do.

    Returns the other rows.
    """
    offers = keyed.offers
    counts = offers.counts[rows]
    offered = keyed.offered[ranges(offers.starts[rows], counts)]
    row = np.repeat(np.arange(len(rows)), counts)
    traits = keyed.traits[offered]
    is_plain = np.ones(len(rows), dtype=np.bool_)
    index = {trait: np.full(len(rows), NONE) for trait in (Trait.VANITY, Trait.EMAIL, Trait.PHONE)}
    for trait, of_row in index.items():
        has_trait = traits == trait
        of_row[row[has_trait]] = offered[has_trait]
        is_plain &= np.bincount(row[has_trait], minlength=len(rows)) <= 1
    keys = keyed.keys
    profile, email, phone = (np.where(is_plain, of_row, NONE) for of_row in index.values())
    has_profile, has_email, has_phone = profile != NONE, email != NONE, phone != NONE
    chosen = has_profile & has_email
    people = pack_people(profiles=keys[profile[chosen]], emails=None)
    _add_companions(companions, keys[email[chosen]].tolist(), people)
    chosen &= has_phone
    people = pack_people(profiles=keys[profile[chosen]], emails=keys[email[chosen]])
    _add_companions(companions, keys[phone[chosen]].tolist(), people)
    chosen = has_profile & ~has_email & has_phone
    people = pack_people(profiles=keys[profile[chosen]], emails=None)
    _add_companions(companions, keys[phone[chosen]].tolist(), people)
    chosen = has_email & ~has_profile & has_phone
    people = pack_people(profiles=None, emails=keys[email[chosen]])
    _add_companions(companions, keys[phone[chosen]].tolist(), people)
    return rows[~is_plain]


def _offered_in(keyed: KeyedOffers, rows: Numbers) -> Iterator[tuple[RowPerson | None, list[int]]]:
    """Of each of these rows: the person, and the indices of its keys."""
    offers = keyed.offers
    persons = offers.persons or [None] * len(offers)
    offered: list[int] = keyed.offered.tolist()
    starts: list[int] = offers.starts[rows].tolist()
    counts: list[int] = offers.counts[rows].tolist()
    listed: list[int] = rows.tolist()
    for row, start, count in zip(listed, starts, counts, strict=True):
        yield persons[row], offered[start : start + count]


def _add_companions(
    companions: dict[bytes, set[bytes]], keys: Sequence[bytes], people: Sequence[bytes]
) -> None:
    for key, person in zip(keys, people, strict=True):
        known = companions.get(key)
        if known is None:
            companions[key] = {person}
        else:
            known.add(person)


# Which contacts may answer


def _by_company(emails: Iterable[Identifier]) -> dict[str, set[str]]:
    """By company domain, the addresses of people."""
    addresses: dict[str, set[str]] = {}
    for email in emails:
        if (domain := company_domain(email.value)) is not None and not is_role(email):
            addresses.setdefault(domain, set()).add(email.value)
    return addresses


def contradicts(row: Sequence[Identifier], inside: Sequence[Identifier]) -> bool:
    """Whether a contact with these identifiers inside, which a phone found, is not the person of this row.

    It is not if both have an address at one company and the addresses differ. Different profiles say less:
    the row's profile was a miss by then.
    """
    contact_emails = _by_company(identifier for identifier in inside if identifier.field_type == "email")
    for identifier in row:
        if identifier.field_type != "email" or is_role(identifier):
            continue
        domain = company_domain(identifier.value)
        if domain in contact_emails and identifier.value not in contact_emails[domain]:
            return True
    return False


def answered_alike(
    row: Sequence[Identifier], person: RowPerson, contacts: Flattened, index: int
) -> int | None:
    """Which of a row's identifiers a contact answers that was found for another row of its name and company.

    `row` are those that did not miss, in the order of asking. The contact has to hold one of them, or to have the
    row's name if none of them is strong; and nothing may say that it is another person. None if it is not the row's.
    """
    inside = identifiers_in(contacts.texts(index))
    verdict = agrees(person, **contacts.names(index))
    if verdict is False or _has_other_profile(row, inside) or contradicts(row, inside):
        return None
    held = set(map(key_of, inside))
    is_held = [key_of(identifier) in held for identifier in row]
    strong = [number for number, identifier in enumerate(row) if not is_weak(identifier)]
    for number in strong:
        if is_held[number]:
            return number
    may_answer = any(is_held) or (not strong and verdict is True)
    return 0 if may_answer and row else None


def _has_other_profile(row: Iterable[Identifier], inside: Iterable[Identifier]) -> bool:
    """Whether both have a LinkedIn profile under a name that its owner chose, and none in common."""
    ours, theirs = _vanity_profiles(row), _vanity_profiles(inside)
    return bool(ours and theirs) and ours.isdisjoint(theirs)


def _vanity_profiles(identifiers: Iterable[Identifier]) -> set[tuple[FieldType, str]]:
    return {
        key_of(identifier)
        for identifier in identifiers
        if identifier.field_type == "social_profile" and is_vanity(identifier.value)
    }


def may_be_a_households(identifier: Identifier) -> bool:
    """Whether a family or an office may share it, so that a contact of another name is another person's.

    That holds for a phone, a role's mailbox, and an address at a provider where anybody may have one. An
    address at a company is kept through a marriage.
    """
    is_public = identifier.field_type == "email" and company_domain(identifier.value) is None
    return is_weak(identifier) or is_public


def _people_by_phone(keyed: KeyedOffers, phones: set[int]) -> dict[int, set[RowPerson | None]]:
    people: dict[int, set[RowPerson | None]] = {phone: set() for phone in phones}
    offers = keyed.offers
    persons = offers.persons or [None] * len(offers)
    rows: list[int] = np.repeat(np.arange(len(offers)), offers.counts).tolist()
    for row, key in zip(rows, keyed.offered.tolist(), strict=True):
        if key in phones:
            people[key].add(persons[row])
    return people


def phones_of_others(keyed: KeyedOffers, known: KnownKeys, ledger: Ledger) -> Indices:
    """The indices of phones that are only known as part of a contact whose name is not that of every row with it.

    A phone alone may be anybody's in the house. A contact with the row's phone and the row's name is its person.
    """
    phones = set(np.flatnonzero(keyed.have_trait(Trait.PHONE) & known.is_alias).tolist())
    if not phones:
        return np.empty(0, dtype=np.intp)
    people = _people_by_phone(keyed, phones)
    names = _contact_names(known, phones, ledger)
    of_others = [
        phone for phone in phones if not all(_is_named(person, names[phone]) for person in people[phone])
    ]
    return np.array(sorted(of_others), dtype=np.intp)


def _is_named(person: RowPerson | None, names: Mapping[str, str | None]) -> bool:
    return person is not None and agrees(person, **names) is True


def _contact_names(known: KnownKeys, indices: set[int], ledger: Ledger) -> dict[int, dict[str, str | None]]:
    """By index, the names of the contact that is known of that key."""
    indices_of_request: dict[int, list[int]] = {}
    for index in indices:
        request_id = int(known.request_ids[known.request_index[index]])
        indices_of_request.setdefault(request_id, []).append(index)
    names: dict[int, dict[str, str | None]] = {}
    for stored in ledger.replies(indices_of_request):
        records = parse_reply(decompress(stored)[0]).records
        for index in indices_of_request[stored.request_id]:
            contact = contact_of(records[int(known.position[index])]).plain
            names[index] = {name: getattr(contact, name) or None for name in NAME_COLUMNS}
    return names
