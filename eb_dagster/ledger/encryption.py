"""Raw replies encrypted at rest, if the environment names a key.

AES-256-GCM of the `cryptography` package (extra `encryption`), off by default. The key is 32 bytes in
base64 in $EB_DAGSTER_LEDGER_KEY. Without it no stored reply can be read again, but none is paid for twice either.
To change it, put the old key into $EB_DAGSTER_LEDGER_KEY_OLD, which opens what it sealed and seals nothing more.

The table `meta` holds a mark of the key in use, and of each old key the last request whose reply it may have sealed.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from importlib.util import find_spec
from typing import Final, Self

import sqlalchemy as sa

from eb_dagster.errors import ConfigError, LedgerError
from eb_dagster.ledger.request_rows import newest_request
from eb_dagster.ledger.schema import Facts, meta, replies

VARIABLE: Final = "EB_DAGSTER_LEDGER_KEY"
OLD_VARIABLE: Final = "EB_DAGSTER_LEDGER_KEY_OLD"
SEALED: Final = "aes256gcm:"
"""The beginning of the encoding of a sealed body."""
_NONCE_BYTES: Final = 12

# Names in `meta`.
_MARK: Final = "encryption_key"
_OLD_MARK: Final = "old_key_"
_SELECT_MARK: Final = sa.select(meta.c.value).where(meta.c.name == _MARK)
_SELECT_ALL_MARKS: Final = sa.select(meta).where(
    sa.or_(meta.c.name == _MARK, meta.c.name.startswith(_OLD_MARK))
)


@dataclass(frozen=True, slots=True)
class ReplyCipher:
    """Seals bodies, or lets them pass if there is no key."""

    _key: bytes | None = field(repr=False)
    _old_keys: tuple[bytes, ...] = field(default=(), repr=False)

    @classmethod
    def from_environment(cls) -> Self:
        """The cipher with the environment's keys, or without one."""
        key = _read_key(VARIABLE, os.environ.get(VARIABLE, ""))
        # After several changes there may be several old keys, separated by commas.
        texts = os.environ.get(OLD_VARIABLE, "").split(",")
        old_keys = [_read_key(OLD_VARIABLE, text) for text in texts]
        return cls(key, tuple(old_key for old_key in old_keys if old_key is not None))

    def mark(self, ledger_id: str) -> bytes | None:
        """A hash that tells with which key a ledger's replies are sealed. The key cannot be derived from it."""
        return None if self._key is None else _mark(self._key, ledger_id)

    def readable_marks(self, ledger_id: str) -> set[str]:
        """The marks of all keys that can open what was sealed."""
        return {_mark(key, ledger_id).decode() for key in self._keys}

    @property
    def _keys(self) -> tuple[bytes, ...]:
        return self._old_keys if self._key is None else (self._key, *self._old_keys)

    def seal(self, body: bytes, encoding: str) -> tuple[bytes, str]:
        """Encrypt a body. Its encoding is authenticated with it."""
        if self._key is None:
            return body, encoding
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = os.urandom(_NONCE_BYTES)
        return nonce + AESGCM(self._key).encrypt(nonce, body, encoding.encode()), SEALED + encoding

    def unseal(self, body: bytes, encoding: str) -> tuple[bytes, str]:
        """Decrypt a body that was sealed; one that was not is given back as it is."""
        if not encoding.startswith(SEALED):
            return body, encoding
        plain = encoding.removeprefix(SEALED)
        if not self._keys:
            raise LedgerError(f"the ledger's replies are encrypted: set {VARIABLE}")
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce, sealed = body[:_NONCE_BYTES], body[_NONCE_BYTES:]
        for key in self._keys:
            with contextlib.suppress(InvalidTag):
                return AESGCM(key).decrypt(nonce, sealed, plain.encode()), plain
        raise LedgerError(
            f"the key in {VARIABLE} is not that of the ledger's replies; set it to the one they were written with, "
            f"or {OLD_VARIABLE} if it was changed since"
        )


def _check_earlier_keys(
    connection: sa.Connection, marks: Mapping[str, bytes], readable: Collection[str]
) -> None:
    for name, last_request in marks.items():
        if name.removeprefix(_OLD_MARK) not in readable and _has_sealed(connection, int(last_request)):
            raise LedgerError(
                f"some of the ledger's replies are encrypted with an earlier key: set {OLD_VARIABLE} to it, too"
            )


def note_key(
    connection: sa.Connection, cipher: ReplyCipher, ledger_id: str, *, reads_only: bool = False
) -> None:
    """Note the key that seals replies from now on, if any are written. Refuse keys that cannot open what is there."""
    marks = {row.name: bytes(row.value) for row in connection.execute(_SELECT_ALL_MARKS)}
    stored, mark = marks.pop(_MARK, None), cipher.mark(ledger_id)
    readable = cipher.readable_marks(ledger_id)
    _check_earlier_keys(connection, marks, readable)
    if mark == stored:
        return
    if mark is None or (stored is not None and stored.decode() not in readable):
        raise _wrong_key(mark)
    if reads_only:
        return
    rows = [{"name": _MARK, "value": mark}]
    if stored is not None:
        last_request = str(newest_request(connection)).encode()
        rows.append({"name": _OLD_MARK + stored.decode(), "value": last_request})
    connection.execute(sa.delete(meta).where(meta.c.name.in_([row["name"] for row in rows])))
    connection.execute(sa.insert(meta), rows)


def check_key(facts: Facts, cipher: ReplyCipher, ledger_id: str) -> None:
    """Refuse to seal with a key that is no longer the noted one."""
    mark = cipher.mark(ledger_id)
    if facts.get(_MARK) != mark:
        raise _wrong_key(mark)


def _wrong_key(mark: bytes | None) -> LedgerError:
    if mark is None:
        return LedgerError(f"the ledger's replies are encrypted: set {VARIABLE}")
    return LedgerError(
        f"the key in {VARIABLE} is not that of the ledger's replies; set it to that one or, to change it, set "
        f"{OLD_VARIABLE} to that one and open the ledger anew"
    )


def _has_sealed(connection: sa.Connection, last_request: int) -> bool:
    """Whether the reply of any request up to that one is sealed."""
    query = sa.select(replies.c.request_id).where(
        replies.c.request_id <= last_request, replies.c.encoding.startswith(SEALED)
    )
    return connection.execute(query.limit(1)).scalar() is not None


def _read_key(variable: str, text: str) -> bytes | None:
    if not text.strip():
        return None
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != 32:
        raise ConfigError(f"{variable} is not a key; set it to 32 random bytes in base64")
    if find_spec("cryptography") is None:
        raise ConfigError(
            f'{variable} is set, which needs cryptography: pip install "eb-dagster[encryption]"'
        )
    return key


def _mark(key: bytes, ledger_id: str) -> bytes:
    return blake2b(ledger_id.encode(), key=key, digest_size=16).hexdigest().encode()
