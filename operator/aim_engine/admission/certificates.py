"""Certificates of the gate, made and rotated by itself: a new CA and a leaf each time, and a time in which both are trusted.

Pure: keys are made here, stored and served by `keeper`. A rotation goes in two steps, so that no request meets a
certificate that the API server does not trust yet: first the next CA joins the bundle, later its leaf is served.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_CLOCK_SKEW = timedelta(minutes=5)
_FILES = ("tls.crt", "tls.key", "tls-ca.crt")
_NEXT = ("next.crt", "next.key", "next-ca.crt")
BUNDLE, RETIRED = "ca.crt", "retired-ca.crt"


@dataclass(frozen=True, slots=True)
class Pair:
    """A leaf with its key, and the CA that signed it, in PEM. The CA's key is thrown away: it signs once."""

    certificate: bytes
    key: bytes
    ca: bytes

    @property
    def leaf(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.certificate)


@dataclass(frozen=True, slots=True)
class Keys:
    """What is served, what will be, and which CAs are trusted."""

    current: Pair
    upcoming: Pair | None = None
    activate_at: datetime | None = None
    """When `upcoming` takes over."""
    retired_ca: bytes = b""
    """Of the pair before: replicas that have not taken the new one yet are trusted."""

    @property
    def bundle(self) -> bytes:
        """CAs that the API server is to trust."""
        upcoming = self.upcoming.ca if self.upcoming else b""
        return self.current.ca + upcoming + self.retired_ca


def make_pair(names: Sequence[str], now: datetime, days: int) -> Pair:
    """A fresh CA and a leaf for these DNS names."""
    start, end = now - _CLOCK_SKEW, now + timedelta(days=days)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, f"aim-engine-recipe-validator-ca {now:%Y-%m-%dT%H:%M:%SZ}")]
    )
    ca = (
        x509.CertificateBuilder(
            ca_name, ca_name, ca_key.public_key(), x509.random_serial_number(), start, end
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    leaf = (
        x509.CertificateBuilder(ca_name, subject, key.public_key(), x509.random_serial_number(), start, end)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    return Pair(
        leaf.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        ca.public_bytes(serialization.Encoding.PEM),
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs, key_cert_sign=signs, crl_sign=signs, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def advance(
    keys: Keys | None, names: Sequence[str], now: datetime, *, days: int, overlap: timedelta, forced: bool
) -> Keys:
    """The keys as they should be now; the same value where nothing is due.

    A third of its life before the end, or when `forced`, the next pair is made; after `overlap` it is served.
    """
    if keys is None or not _serves(keys.current, names, now):
        return Keys(make_pair(names, now, days), retired_ca=keys.current.ca if keys else b"")
    if keys.upcoming is not None:
        if keys.activate_at is not None and now < keys.activate_at:
            return keys
        return Keys(keys.upcoming, retired_ca=keys.current.ca)
    leaf = keys.current.leaf
    life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    if forced or now >= leaf.not_valid_after_utc - life / 3:
        return replace(keys, upcoming=make_pair(names, now, days), activate_at=now + overlap)
    return keys


def _serves(pair: Pair, names: Sequence[str], now: datetime) -> bool:
    """Whether a pair is valid now and for all the names."""
    leaf = pair.leaf
    known = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    covered = set(known.get_values_for_type(x509.DNSName))
    return set(names) <= covered and leaf.not_valid_before_utc <= now < leaf.not_valid_after_utc


def to_files(keys: Keys) -> dict[str, bytes | None]:
    """Content of the Secret; None removes a key."""
    pairs = ((_FILES, keys.current), (_NEXT, keys.upcoming))
    files: dict[str, bytes | None] = {BUNDLE: keys.bundle, RETIRED: keys.retired_ca or None}
    for names, pair in pairs:
        values = (pair.certificate, pair.key, pair.ca) if pair else (None, None, None)
        files.update(zip(names, values, strict=True))
    return files


def from_files(files: Mapping[str, bytes], activate_at: str | None) -> Keys | None:
    """Keys of a Secret; None where it holds none, or none that can be read."""
    try:
        current, upcoming = _pair(files, _FILES), _pair(files, _NEXT)
        at = datetime.fromisoformat(activate_at).astimezone(UTC) if activate_at else None
    except ValueError:
        return None
    return None if current is None else Keys(current, upcoming, at, files.get(RETIRED, b""))


def _pair(files: Mapping[str, bytes], names: tuple[str, str, str]) -> Pair | None:
    """Raises ValueError for what is no certificate or whose key is of another."""
    if any(name not in files for name in names):
        return None
    pair = Pair(*(files[name] for name in names))
    key = serialization.load_pem_private_key(pair.key, None)
    x509.load_pem_x509_certificate(pair.ca)
    if key.public_key() != pair.leaf.public_key():
        raise ValueError("the key is not the certificate's")
    return pair
