"""Certificates for tests, made by `openssl`: an authority, a server, a client, and a stranger. This module does I/O."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from support.servers.base import HOST, need, run


DAYS = "2"
CONFIG = f"""\
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid, issuer
subjectAltName = DNS:localhost, IP:{HOST}
"""


@dataclass(frozen=True, slots=True)
class Certificate:
    """Files in PEM: a certificate and its key, without a password."""

    certificate: Path
    key: Path

    @property
    def text(self) -> str:
        """The key and the certificate."""
        return self.key.read_text() + self.certificate.read_text()


@dataclass(frozen=True, slots=True)
class Certificates:
    """What an authority has signed, and what it has not."""

    authority: Path
    """The authority's certificate, by which all others but the stranger's are checked."""
    server: Certificate
    """For localhost and 127.0.0.1."""
    client: Certificate
    """Named `client`."""
    stranger: Certificate
    """Named `client` too, but signed by an authority that nobody here trusts."""
    other_authority: Path
    """The certificate of that authority."""

    def context(self, client: Certificate | None = None) -> ssl.SSLContext:
        """What a client needs: it checks the server, and shows `client` where there is one."""
        made = ssl.create_default_context(cafile=str(self.authority))
        if client is not None:
            made.load_cert_chain(client.certificate, client.key)
        return made


def make_certificates(folder: Path) -> Certificates:
    """Make all of them, in files of `folder`; raises NoServerError where `openssl` is missing."""
    need("openssl", purpose="certificates")
    (folder / "openssl.cnf").write_text(CONFIG)
    authority = _authority(folder, "authority")
    other = _authority(folder, "other-authority")
    return Certificates(
        authority.certificate,
        _signed(folder, "server", "localhost", authority),
        _signed(folder, "client", "client", authority),
        _signed(folder, "stranger", "client", other),
        other.certificate,
    )


def _authority(folder: Path, name: str) -> Certificate:
    made = _files(folder, name)
    sign = ["-x509", "-days", DAYS, "-extensions", "authority", "-out", str(made.certificate)]
    _request(folder, f"abmonitor test {name}", made.key, sign)
    return made


def _signed(folder: Path, name: str, subject: str, authority: Certificate) -> Certificate:
    made = _files(folder, name)
    request = str(folder / f"{name}.csr")
    _request(folder, subject, made.key, ["-out", request])
    by = ["-CA", str(authority.certificate), "-CAkey", str(authority.key), "-CAcreateserial"]
    how = ["-extfile", "openssl.cnf", "-extensions", "leaf", "-days", DAYS]
    _openssl(folder, "x509", "-req", "-in", request, "-out", str(made.certificate), *by, *how)
    return made


def _files(folder: Path, name: str) -> Certificate:
    return Certificate(folder / f"{name}.pem", folder / f"{name}.key")


def _request(folder: Path, subject: str, key: Path, rest: list[str]) -> None:
    curve = [
        "-algorithm",
        "EC",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
    ]  # PKCS #8, as Kafka wants it
    _openssl(folder, "genpkey", *curve, "-out", str(key))
    named = ["-key", str(key), "-subj", f"/CN={subject}"]
    _openssl(folder, "req", "-new", "-config", "openssl.cnf", *named, *rest)


def _openssl(folder: Path, *arguments: str) -> None:
    run(["openssl", *arguments], purpose="certificates", folder=folder)
