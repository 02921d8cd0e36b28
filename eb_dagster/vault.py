"""Raw replies encrypted at rest, if the environment names a key.

AES-256-GCM of the `cryptography` package (extra `encryption`), off by default. The key is 32 bytes in
base64 in $EB_DAGSTER_LEDGER_KEY; who loses it can read no stored reply again, but pays for none twice.
"""

from __future__ import annotations

import base64
import binascii
import os
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Final, Self

from eb_dagster.errors import ConfigError, LedgerError

VARIABLE: Final = "EB_DAGSTER_LEDGER_KEY"
_MARK: Final = "aes256gcm:"
_NONCE_BYTES: Final = 12


@dataclass(frozen=True, slots=True)
class Vault:
    """Seals bodies, or lets them pass if there is no key."""

    _key: bytes | None = field(repr=False)

    @classmethod
    def from_environment(cls) -> Self:
        """The vault with the environment's key, or without one."""
        text = os.environ.get(VARIABLE, "").strip()
        if not text:
            return cls(None)
        try:
            key = base64.b64decode(text, validate=True)
        except binascii.Error:
            key = b""
        if len(key) != 32:
            raise ConfigError(f"{VARIABLE} is no key; set it to 32 random bytes in base64")
        if find_spec("cryptography") is None:
            raise ConfigError(
                f'{VARIABLE} is set, which needs cryptography: pip install "eb-dagster[encryption]"'
            )
        return cls(key)

    def seal(self, body: bytes, encoding: str) -> tuple[bytes, str]:
        """Encrypt a body. Its encoding is authenticated with it."""
        if self._key is None:
            return body, encoding
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = os.urandom(_NONCE_BYTES)
        return nonce + AESGCM(self._key).encrypt(nonce, body, encoding.encode()), _MARK + encoding

    def unseal(self, body: bytes, encoding: str) -> tuple[bytes, str]:
        """Decrypt a body that was sealed; one that was not is given back as it is."""
        if not encoding.startswith(_MARK):
            return body, encoding
        plain = encoding.removeprefix(_MARK)
        if self._key is None:
            raise LedgerError(f"the ledger's replies are encrypted: set {VARIABLE}")
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce, sealed = body[:_NONCE_BYTES], body[_NONCE_BYTES:]
        try:
            return AESGCM(self._key).decrypt(nonce, sealed, plain.encode()), plain
        except InvalidTag:
            raise LedgerError(
                f"the key in {VARIABLE} is not that of the ledger's replies; set it to the one they were written with"
            ) from None
