"""Keyed hashes of identifiers, by which a ledger knows people without holding their names."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Literal, TypeAlias

import pyarrow as pa

from eb_dagster.identifiers.arrays import Array
from eb_dagster.identifiers.canonical import key_forms
from eb_dagster.identifiers.kinds import KINDS
from eb_dagster.identifiers.model import FieldType
from eb_dagster.ledger.entries import KEY_BYTES

HashedType: TypeAlias = FieldType | Literal["name"]
ValueHasher: TypeAlias = Callable[[str], bytes]


class KeyHasher:
    """Makes the keys of one ledger: the keyed hash of endpoint, kind and value, with NUL between them.

    The value is hashed in its key form, so that all spellings of one mailbox or profile have one key.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._hashers: dict[tuple[str, HashedType], ValueHasher] = {}

    def hasher(self, field_type: HashedType, *, endpoint: str) -> ValueHasher:
        """What makes the keys of values of one kind at one endpoint; "" stands for all endpoints."""
        hasher = self._hashers.get((endpoint, field_type))
        if hasher is None:
            hasher = self._hashers[endpoint, field_type] = self._new_hasher(field_type, endpoint)
        return hasher

    def hash_column(self, field_type: FieldType, values: Array, *, endpoint: str) -> bytes:
        """The keys of a column of canonical values, one after the other."""
        copy = self._prefix_hash(field_type, endpoint).copy
        keys: list[bytes] = []
        for value in key_forms(field_type, values).cast(pa.binary()).to_pylist():
            value_hash = copy()
            value_hash.update(value)
            keys.append(value_hash.digest())
        return b"".join(keys)

    def _prefix_hash(self, field_type: HashedType, endpoint: str) -> blake2b:
        # The prefix is hashed once: that is half of the work.
        prefix = f"{endpoint}\0{field_type}\0".encode("utf-8", "surrogatepass")
        return blake2b(prefix, key=self._secret, digest_size=KEY_BYTES)

    def _new_hasher(self, field_type: HashedType, endpoint: str) -> ValueHasher:
        prefix_hash = self._prefix_hash(field_type, endpoint)
        key_form = _unchanged if field_type == "name" else KINDS[field_type].key_form

        def hash_of(value: str) -> bytes:
            value_hash = prefix_hash.copy()
            value_hash.update(key_form(value).encode("utf-8", "surrogatepass"))
            return value_hash.digest()

        return hash_of


def _unchanged(value: str) -> str:
    return value
