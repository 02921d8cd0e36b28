"""The right person: which of a row's identifiers may be asked, and which contacts may answer for the row.

Strong identifiers are asked before a phone. A role's mailbox (`info@…`) is asked only for a row that offers
nothing else. What several people share is asked for nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from eb_dagster.api.envelope import parse_reply
from eb_dagster.identifiers.company_domains import company_domain
from eb_dagster.identifiers.kinds import is_role, is_weak
from eb_dagster.identifiers.model import Candidates, Identifier, Trait
from eb_dagster.identifiers.names import RowPerson, agrees, tokens
from eb_dagster.ledger.companions import pack_person
from eb_dagster.ledger.entries import Indices
from eb_dagster.ledger.known_keys import KnownKeys
from eb_dagster.ledger.ledger import Ledger
from eb_dagster.ledger.replies import contact_of, decompress
from eb_dagster.pipeline.offers import Offer, Offers

SHARED: Final = "shared"
ROLE_MAILBOX: Final = "role_mailbox"

Booleans = npt.NDArray[np.bool_]


# What may be asked


class Narrowing:
    """Leaves of each row's offer what may be asked.

    A row left with nothing says why. A row with a suppressed identifier keeps that identifier, and ends by it.
    """

    def __init__(self, offers: Offers, *, is_shared: Booleans, suppressed: Collection[bytes]) -> None:
        self._offers = offers
        self._is_shared = is_shared
        self._is_suppressed = np.array([key in suppressed for key in offers.keys], dtype=np.bool_)
        self._is_role = offers.have_trait(Trait.ROLE)
        self._is_phone = offers.have_trait(Trait.PHONE)

    def apply(self) -> None:
        """Narrow every offer."""
        has_choice = self._offers.counts.max(initial=0) > 1
        if has_choice or self._is_shared.any():
            self._offers.replace_each(self._narrow)

    def _reasons_against(self, indices: Iterable[int], *, has_unasked_roles: bool) -> list[str]:
        reasons: list[str] = []
        if any(self._is_shared[index] for index in indices):
            reasons.append(SHARED)
        if has_unasked_roles:
            reasons.append(ROLE_MAILBOX)
        return reasons

    def _narrow(self, offer: Offer) -> Offer:
        candidates, indices = offer
        roles = [index for index in indices if self._is_role[index]]
        # A row's own identifiers, or the first of its roles' mailboxes if it has nothing else.
        asked = roles[:1] if len(roles) == len(indices) else _without(roles, indices)
        kept = self._kept(indices, asked)
        reasons = self._reasons_against(indices, has_unasked_roles=bool(roles) and len(asked) < len(indices))
        if kept == list(indices) and not reasons:
            return offer
        # The first reason of a row without identifiers is the one that is reported.
        every_reason = (*candidates.reasons, *reasons) if kept else (*reasons, *candidates.reasons)
        identifiers = tuple(self._offers.identifiers[index] for index in kept)
        return Offer(Candidates(identifiers, every_reason, candidates.person), kept)

    def _kept(self, indices: Sequence[int], asked: Sequence[int]) -> list[int]:
        """Those that are asked and not shared, and those that are suppressed; phones come last."""
        kept = [index for index in asked if not self._is_shared[index]]
        suppressed = [index for index in indices if self._is_suppressed[index]]
        kept += _without(kept, suppressed)
        kept.sort(key=lambda index: bool(self._is_phone[index]))
        return kept


def _without(left_out: Sequence[int], indices: Sequence[int]) -> list[int]:
    return [index for index in indices if index not in left_out]


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


def companions_in(offers: Offers, hash_of: Callable[[str], bytes]) -> dict[bytes, set[bytes]]:
    """By key of a phone or e-mail, the packed people beside whom it stands; names say nothing of an e-mail."""
    companions: dict[bytes, set[bytes]] = {}
    traits: list[int] = offers.traits.tolist()
    for candidates, indices in offers:
        if len(indices) < 2 and candidates.person is None:
            continue
        profiles, emails, phones = _keys_by_trait(offers.keys, traits, indices)
        names = _hashed_name(candidates.person, hash_of)
        if profiles and emails:
            _add_companion(companions, emails, pack_person(profiles, (), ()))
        if phones and (profiles or emails or names):
            _add_companion(companions, phones, pack_person(profiles, emails, names))
    return companions


def _add_companion(companions: dict[bytes, set[bytes]], keys: Sequence[bytes], person: bytes) -> None:
    for key in keys:
        companions.setdefault(key, set()).add(person)


# Which contacts may answer


def _by_company(emails: Iterable[Identifier]) -> dict[str, set[str]]:
    """By company domain, the addresses of people."""
    addresses: dict[str, set[str]] = {}
    for email in emails:
        if (domain := company_domain(email.value)) is not None and not is_role(email):
            addresses.setdefault(domain, set()).add(email.value)
    return addresses


def contradicts(row: Sequence[Identifier], emails: Sequence[Identifier]) -> bool:
    """Whether a contact with these e-mails, which a phone found, is not the person of this row.

    It is not if both have an address at one company and the addresses differ. Different profiles say less:
    the row's profile was a miss by then.
    """
    contact_emails = _by_company(emails)
    for identifier in row:
        if identifier.field_type != "email" or is_role(identifier):
            continue
        domain = company_domain(identifier.value)
        if domain in contact_emails and identifier.value not in contact_emails[domain]:
            return True
    return False


def may_be_a_households(identifier: Identifier) -> bool:
    """Whether a family or an office may share it, so that a contact of another name is another person's.

    That holds for a phone, a role's mailbox, and an address at a provider where anybody may have one. An
    address at a company is kept through a marriage.
    """
    is_public = identifier.field_type == "email" and company_domain(identifier.value) is None
    return is_weak(identifier) or is_public


def _people_by_phone(offers: Offers, phones: set[int]) -> dict[int, set[RowPerson | None]]:
    people: dict[int, set[RowPerson | None]] = {phone: set() for phone in phones}
    for candidates, indices in offers:
        for phone in phones.intersection(indices):
            people[phone].add(candidates.person)
    return people


def phones_of_others(offers: Offers, known: KnownKeys, ledger: Ledger) -> Indices:
    """The indices of phones that are only known as part of a contact whose name is not that of every row with it.

    A phone alone may be anybody's in the house. A contact with the row's phone and the row's name is its person.
    """
    phones = set(np.flatnonzero(offers.have_trait(Trait.PHONE) & known.is_alias).tolist())
    if not phones:
        return np.empty(0, dtype=np.intp)
    people = _people_by_phone(offers, phones)
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
            values = contact_of(records[int(known.position[index])]).values
            names[index] = {name: getattr(values, name) for name in ("full_name", "first_name", "last_name")}
    return names
