"""Which certificates a server is checked with."""

from __future__ import annotations

import os
import ssl
import sys
from pathlib import Path

import certifi

from eb_dagster.errors import ConfigError


def check_bundle(ca_bundle: str) -> None:
    """Raise `ConfigError` if it is no PEM file of certificates that can be read."""
    _add(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ca_bundle, setting="ca_bundle")


def trusted_certificates(ca_bundle: str | None) -> ssl.SSLContext:
    """Those of the system and of the settings. Raises `ConfigError` if one that is set cannot be read."""
    # Not `create_default_context`, which writes the keys of the session where SSLKEYLOGFILE says.
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Only the alternative names count, as in browsers and RFC 9525.
    trust.hostname_checks_common_name = False
    if sys.version_info >= (3, 13):
        trust.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
    # Those of the system (or of OpenSSL's own SSL_CERT_FILE and SSL_CERT_DIR), of certifi, of the variable
    # that users of requests know, and of our own setting.
    trust.load_default_certs()
    trust.load_verify_locations(cafile=certifi.where())
    if bundle := os.environ.get("REQUESTS_CA_BUNDLE"):
        _add(trust, bundle, setting="REQUESTS_CA_BUNDLE")
    if ca_bundle is not None:
        _add(trust, ca_bundle, setting="ca_bundle")
    return trust


def _add(trust: ssl.SSLContext, bundle: str, *, setting: str) -> None:
    path = Path(bundle)
    try:
        if path.is_dir() and setting != "ca_bundle":
            trust.load_verify_locations(capath=bundle)
            return
        # Reading anything else, such as a pipe, could block for ever.
        if path.is_file():
            trust.load_verify_locations(cafile=bundle)
            return
    except (OSError, ValueError):
        pass
    raise ConfigError(
        f"{setting} does not name a PEM file of certificates that can be read; set it to one, or leave it out"
    )
