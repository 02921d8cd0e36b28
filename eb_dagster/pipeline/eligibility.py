"""Which of a row's identifiers may be asked, and whose contact is not the row's person's.

Strong ones come first, a phone after them. A role's mailbox (`info@…`) is asked only for a row that offers
nothing else. What several people share is asked for nobody.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from eb_dagster.identifiers.company_domains import company_domain
from eb_dagster.identifiers.kinds import is_role, is_weak
from eb_dagster.identifiers.model import Candidates, Identifier, Trait
from eb_dagster.pipeline.rows import Offers

SHARED = "shared"
ROLE_MAILBOX = "role_mailbox"


def narrow(
    offers: Offers, *, is_shared: npt.NDArray[np.bool_], suppressed: Collection[bytes]
) -> list[Candidates]:
    """Leave of each row's offer what may be asked. Returns the rows as they are then.

    A row left with nothing says why. One of whom something is suppressed keeps that, and ends by it.
    """
    is_role_mailbox = offers.are(Trait.ROLE)
    if offers.counts.max(initial=0) > 1 or is_shared.any():
        is_phone = offers.are(Trait.PHONE)
        is_barred = np.array([key in suppressed for key in offers.keys], dtype=np.bool_)
        offers.replace_each(
            lambda offer, places: _narrowed(
                offers, offer, places, is_role_mailbox, is_shared, is_phone, is_barred
            )
        )
    return offers.rows()


def contradicts(row: Sequence[Identifier], emails: Sequence[Identifier]) -> bool:
    """Whether a contact with these e-mails, which a phone found, is not the person of this row.

    So it is where both have an address at one company and it is not the same. That the profiles differ says
    less: the row's was a miss by then.
    """
    theirs: dict[str, set[str]] = {}
    for one in emails:
        if (domain := company_domain(one.value)) is not None and not is_role(one):
            theirs.setdefault(domain, set()).add(one.value)
    own = [one.value for one in row if one.field_type == "email" and not is_role(one)]
    return any(email not in theirs[domain] for email in own if (domain := company_domain(email)) in theirs)


def may_be_a_households(identifier: Identifier) -> bool:
    """Whether a family or an office may share it, so that a contact of another name is another person's.

    A phone, a role's mailbox, or one at a provider where anybody may have one. An address at a company is kept
    through a marriage.
    """
    is_public = identifier.field_type == "email" and company_domain(identifier.value) is None
    return is_weak(identifier) or is_public


def _narrowed(
    offers: Offers,
    offer: Candidates,
    places: Sequence[int],
    is_role_mailbox: npt.NDArray[np.bool_],
    is_shared: npt.NDArray[np.bool_],
    is_phone: npt.NDArray[np.bool_],
    is_barred: npt.NDArray[np.bool_],
) -> tuple[Candidates, Sequence[int]]:
    own = [place for place in places if not is_role_mailbox[place]]
    roles = [place for place in places if is_role_mailbox[place]]
    asked = own or roles[:1]
    reasons = dict.fromkeys(
        [SHARED] * any(is_shared[place] for place in places)
        + [ROLE_MAILBOX] * (len(asked) < len(places) and bool(roles))
    )
    kept = [place for place in asked if not is_shared[place]]
    kept += [place for place in places if is_barred[place] and place not in kept]
    kept.sort(key=lambda place: bool(is_phone[place]))
    if kept == list(places) and not reasons:
        return offer, places
    why = (*offer.reasons, *reasons) if kept else (*reasons, *offer.reasons)
    return Candidates(tuple(offers.identifiers[place] for place in kept), why, offer.person), kept
