"""Keys that stay the same for ever."""

import hashlib
from contextlib import closing

import pytest

from eb_dagster.identifiers.arrays import text_array
from eb_dagster.identifiers.model import Identifier
from eb_dagster.ledger.ledger import Ledger
from tests.ledger.steps import (
    ENDPOINT,
    JANE,
)


@pytest.mark.parametrize(
    ("identifier", "hashed"),
    [
        (JANE, "email\0jane@firm.example"),
        (Identifier("phone", "+17734749362"), "phone\0+17734749362"),
        (Identifier("social_profile", "linkedin.com/in/jane"), "social_profile\0linkedin.com/in/jane"),
    ],
)
def test_what_is_bought_is_kept_under_the_same_key_for_ever(where, identifier, hashed):
    # With any other, whatever ledgers hold is forgotten, and bought again.
    with closing(Ledger(where, endpoint=ENDPOINT)) as ledger:
        for endpoint, key in (ENDPOINT, ledger.key(identifier)), ("", ledger.key(identifier, endpoint="")):
            text = f"{endpoint}\0{hashed}".encode()
            assert key == hashlib.blake2b(text, key=ledger._hasher._secret, digest_size=16).digest()
        assert ledger.keys([identifier]) == [ledger.key(identifier)]
        column = text_array([identifier.value, "facebook.com/b.ob", "b.ob@gmail.com"])
        keys = ledger.hash_column(identifier.field_type, column, endpoint=ENDPOINT)
        assert keys == b"".join(map(ledger.hasher(identifier.field_type), column.to_pylist()))
        secret = ledger._hasher._secret
    with closing(Ledger(where, endpoint=ENDPOINT)) as again:
        assert again._hasher._secret == secret
        assert len(secret) >= 16
