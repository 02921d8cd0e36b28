"""Certificates for the campaign: a good one, and those that must not be trusted."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class _Authority:
    def __init__(self, name: str) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = _name(name)
        self.certificate = self._sign(
            self.name, self.key.public_key(), x509.BasicConstraints(ca=True, path_length=0), days=30
        )

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, extra: x509.ExtensionType, *, days: int
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        identifier = x509.SubjectKeyIdentifier.from_public_key(self.key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=60))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(extra, critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .sign(self.key, hashes.SHA256())
        )

    def issue(self, path: Path, *, host: str, days: int = 30, has_alternative_name: bool = True) -> Path:
        """Write a key and its certificate into one file."""
        key = ec.generate_private_key(ec.SECP256R1())
        extra: x509.ExtensionType = x509.SubjectAlternativeName([_general_name(host)])
        if not has_alternative_name:
            extra = x509.BasicConstraints(ca=False, path_length=None)
        certificate = self._sign(_name(host), key.public_key(), extra, days=days)
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        return path


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def make_certificates(folder: Path) -> dict[str, Path]:
    """The authority that the client trusts, and certificates by what is wrong with them."""
    folder.mkdir(parents=True, exist_ok=True)
    known, unknown = _Authority("Known"), _Authority("Unknown")
    authority = folder / "authority.pem"
    authority.write_bytes(known.certificate.public_bytes(serialization.Encoding.PEM))
    return {
        "authority": authority,
        "good": known.issue(folder / "good.pem", host="127.0.0.1"),
        "other": known.issue(folder / "other.pem", host="other.example"),
        "expired": known.issue(folder / "expired.pem", host="127.0.0.1", days=-1),
        "common name": known.issue(folder / "common.pem", host="localhost", has_alternative_name=False),
        "localhost": known.issue(folder / "localhost.pem", host="localhost"),
        "unknown": unknown.issue(folder / "unknown.pem", host="127.0.0.1"),
    }
