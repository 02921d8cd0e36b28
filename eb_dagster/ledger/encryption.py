"""Raw replies encrypted at rest, if the environment names a key.

AES-256-GCM of the `cryptography` package (extra `encryption`), off by default. The key is 32 bytes in
base64 in $EB_DAGSTER_LEDGER_KEY; who loses it can read no stored reply again, but pays for none twice.
To change it, put the one before into $EB_DAGSTER_LEDGER_KEY_OLD: it opens what it sealed, and seals no more.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
from dataclasses import dataclass, field
from hashlib import blake2b
from importlib.util import find_spec
from typing import Final, Self

from eb_dagster.errors import ConfigError, LedgerError

VARIABLE: Final = "EB_DAGSTER_LEDGER_KEY"
OLD_VARIABLE: Final = "EB_DAGSTER_LEDGER_KEY_OLD"
SEALED: Final = "aes256gcm:"
"""What the encoding of a sealed body begins with."""
_NONCE_BYTES: Final = 12


@dataclass(frozen=True, slots=True)
class Vault:
    """Seals bodies, or lets them pass if there is no key."""

    _key: bytes | None = field(repr=False)
    _old: tuple[bytes, ...] = field(default=(), repr=False)

    @classmethod
    def from_environment(cls) -> Self:
        """The vault with the environment's key, or without one."""
        # After several changes there may be several old ones, with commas between.
        old = os.environ.get(OLD_VARIABLE, "").split(",")
        opened = tuple(key for text in old if (key := _read(OLD_VARIABLE, text)) is not None)
        return cls(_read(VARIABLE, os.environ.get(VARIABLE, "")), opened)

    def mark(self, ledger_id: str) -> bytes | None:
        """What tells in a ledger with which key its replies are sealed; the key is not to be had from it."""
        return None if self._key is None else _mark(self._key, ledger_id)

    def marks(self, ledger_id: str) -> set[str]:
        """Of all keys that can open what was sealed."""
        return {_mark(key, ledger_id).decode() for key in self._keys}

    @property
    def _keys(self) -> tuple[bytes, ...]:
        return self._old if self._key is None else (self._key, *self._old)

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


def _read(variable: str, text: str) -> bytes | None:
    if not text.strip():
        return None
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != 32:
        raise ConfigError(f"{variable} is no key; set it to 32 random bytes in base64")
    if find_spec("cryptography") is None:
        raise ConfigError(
            f'{variable} is set, which needs cryptography: pip install "eb-dagster[encryption]"'
        )
    return key


def _mark(key: bytes, ledger_id: str) -> bytes:
    return blake2b(ledger_id.encode(), key=key, digest_size=16).hexdigest().encode()
