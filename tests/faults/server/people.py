"""Who is found: the same person for the same identifier."""

from __future__ import annotations

import hashlib
from typing import Any

KEY = "canary-key-5f1e"
"""The one API key that is right."""

Pair = tuple[str, str]
"""A kind of identifier and its value."""
Json = dict[str, Any]


def digest_of(kind: str, value: str) -> str:
    return hashlib.sha256(f"{kind}\0{value}".encode("utf-8", "surrogatepass")).hexdigest()


def is_found(kind: str, value: str, match_rate: float) -> bool:
    return int(digest_of(kind, value)[:8], 16) < match_rate * 2**32


def name_of(kind: str, value: str) -> str:
    """The full name of the person behind an identifier."""
    return f"Canaryname {digest_of(kind, value)[8:20]}"


def contact_of(kind: str, value: str) -> Json:
    """The made-up person behind an identifier."""
    digest = digest_of(kind, value)
    first, last = name_of(kind, value).split()
    emails = [f"canary.{digest[8:20]}@home.example"]
    if kind == "email":
        emails.append(value)
    return {
        "full_name": f"{first} {last}",
        "first_name": first,
        "last_name": last,
        "current_work_email": emails[-1],
        "emails": emails,
        "phone_numbers": [{"E164": f"+1773474{int(digest[:6], 16) % 9000 + 1000}"}],
        "social_profiles": [{"network": "linkedin", "url": f"https://linkedin.com/in/canary-{digest[8:20]}"}],
        "location": {"city": "Chicago", "region": "Illinois", "country": "United States"},
        "employment": {"name": "Firm", "job": {"title": "Buyer"}},
    }
