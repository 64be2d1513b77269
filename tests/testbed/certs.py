"""The certificates and keys of one control plane, made in memory and written as PEM files."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = datetime.timedelta(days=3650)
CLOCK_SKEW = datetime.timedelta(hours=1)


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its private key, as objects for signing and as PEM for files."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_pem(self) -> bytes:
        """The certificate alone, PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The private key, unencrypted PEM."""
        return private_pem(self.key)


def private_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    """A private key as unencrypted PKCS#8 PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def subject(common_name: str, organizations: Sequence[str] = ()) -> x509.Name:
    """Subject that Kubernetes reads as user name (CN) and groups (O)."""
    return x509.Name(
        [
            *(x509.NameAttribute(NameOID.ORGANIZATION_NAME, name) for name in organizations),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _builder(name: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + LIFETIME)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def certificate_authority(common_name: str) -> KeyPair:
    """A self-signed authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = subject(common_name)
    builder = (
        _builder(name, name, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return KeyPair(builder.sign(key, hashes.SHA256()), key)


def _leaf(
    authority: KeyPair, name: x509.Name, purpose: x509.ObjectIdentifier, hosts: Sequence[str]
) -> KeyPair:
    key = ec.generate_private_key(ec.SECP256R1())
    signer = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        _builder(name, authority.certificate.subject, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(signer),
            critical=False,
        )
    )
    if hosts:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False
        )
    return KeyPair(builder.sign(authority.key, hashes.SHA256()), key)


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def server_certificate(authority: KeyPair, hosts: Sequence[str]) -> KeyPair:
    """A serving certificate for host names and IP addresses, the first of which is also its common name."""
    return _leaf(authority, subject(hosts[0]), ExtendedKeyUsageOID.SERVER_AUTH, hosts)


def client_certificate(authority: KeyPair, user: str, groups: Sequence[str] = ()) -> KeyPair:
    """A client certificate that authenticates as ``user`` in ``groups``."""
    return _leaf(authority, subject(user, groups), ExtendedKeyUsageOID.CLIENT_AUTH, ())


@dataclass(frozen=True)
class Pki:
    """Files of one control plane's certificates and keys."""

    ca: Path
    server_certificate: Path
    server_key: Path
    proxy_certificate: Path
    proxy_key: Path
    service_account_key: Path
    service_account_public_key: Path


def write_pki(directory: Path, more_hosts: Sequence[str] = ()) -> Pki:
    """Make everything the components need below ``directory``; private keys are readable by the owner only.

    The API server's certificate is valid for loopback, its Service's names and ``more_hosts``.
    """
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)
    authority = certificate_authority("testbed-ca")
    hosts = ("localhost", "127.0.0.1", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
    server = server_certificate(authority, (*hosts, *more_hosts))
    proxy = client_certificate(authority, "front-proxy-client")
    signer = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = signer.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    files = {
        "ca.crt": authority.certificate_pem,
        "ca.key": authority.key_pem,
        "server.crt": server.certificate_pem,
        "server.key": server.key_pem,
        "front-proxy.crt": proxy.certificate_pem,
        "front-proxy.key": proxy.key_pem,
        "service-accounts.key": private_pem(signer),
        "service-accounts.pub": public,
    }
    for name, content in files.items():
        (directory / name).write_bytes(content)
    return Pki(
        directory / "ca.crt",
        directory / "server.crt",
        directory / "server.key",
        directory / "front-proxy.crt",
        directory / "front-proxy.key",
        directory / "service-accounts.key",
        directory / "service-accounts.pub",
    )


def load_authority(directory: Path) -> KeyPair:
    """The authority that :func:`write_pki` made below ``directory``."""
    key = serialization.load_pem_private_key((directory / "ca.key").read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{directory / 'ca.key'} is not one of our keys")
    return KeyPair(x509.load_pem_x509_certificate((directory / "ca.crt").read_bytes()), key)
