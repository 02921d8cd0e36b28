"""Mailboxes that are a role's and nobody's own."""

from __future__ import annotations

_ROLES = frozenset({"info", "sales", "support", "admin", "contact", "office", "hello", "kontakt"})


def is_role_mailbox(email: str) -> bool:
    """Whether an e-mail address belongs to a role."""
    return email.partition("@")[0] in _ROLES
