"""A Kafka with a listener for each way to get in. This module does I/O."""

import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from support.servers.certificates import Certificates, make_certificates
from support.servers.kafka import KafkaServer


USER, PASSWORD = "worker", "worker-secret"
LISTENERS = {
    "SASL": "SASL_PLAINTEXT",
    "TLS": "SSL",
    "MUTUAL": "SSL",
    "SASLTLS": "SASL_SSL",
    "SASLMUTUAL": "SASL_SSL",
}
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")

_MODULES = "org.apache.kafka.common.security"


@dataclass(frozen=True, slots=True)
class SecuredKafka:
    """Where it listens (host:port each), and what opens the doors.

    The listeners with SASL accept each of MECHANISMS; tokens come from `token`.
    """

    server: KafkaServer
    certificates: Certificates
    user: str = USER
    password: str = PASSWORD

    @property
    def plaintext(self) -> str:
        """No security: for making topics, and for looking at what arrived."""
        return self.server.servers

    @property
    def sasl(self) -> str:
        """SASL_PLAINTEXT."""
        return self.server.at("SASL")

    @property
    def tls(self) -> str:
        """SSL: clients check the server, which lets everybody in."""
        return self.server.at("TLS")

    @property
    def mutual_tls(self) -> str:
        """SSL that demands a certificate of the client."""
        return self.server.at("MUTUAL")

    @property
    def sasl_tls(self) -> str:
        """SASL_SSL."""
        return self.server.at("SASLTLS")

    @property
    def sasl_mutual_tls(self) -> str:
        """SASL_SSL that demands a certificate of the client as well."""
        return self.server.at("SASLMUTUAL")

    def token(self, *, lifetime_s: int = 3600) -> str:
        """An OAUTHBEARER token that the broker accepts: an unsecured JSON Web Token; over when negative."""
        now = int(time.time())
        claims = {"sub": self.user, "iat": now - 7200, "exp": now + lifetime_s}
        return f"{_encoded({'alg': 'none'})}.{_encoded(claims)}."


@contextmanager
def secured_kafka() -> Iterator[SecuredKafka]:
    """A broker with all listeners, and credentials for them; raises NoServerError."""
    with TemporaryDirectory(prefix="abmonitor-secrets-") as folder:
        certificates = make_certificates(Path(folder))
        with KafkaServer(
            listeners=LISTENERS,
            extra_properties=_properties(Path(folder), certificates),
            scram={USER: PASSWORD},
        ) as server:
            yield SecuredKafka(server, certificates)


def _properties(folder: Path, certificates: Certificates) -> dict[str, str]:
    keystore = folder / "server-keystore.pem"
    keystore.write_text(certificates.server.text)
    found = {
        "num.network.threads": "1",  # of each listener
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(keystore),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(certificates.authority),
        "listener.name.mutual.ssl.client.auth": "required",
        "listener.name.saslmutual.ssl.client.auth": "required",
    }
    for name, protocol in LISTENERS.items():
        if protocol.startswith("SASL"):
            found |= _logins(f"listener.name.{name.lower()}.")
    return found


def _logins(prefix: str) -> dict[str, str]:
    logins = {
        "plain": f'{_MODULES}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";',
        "scram-sha-256": f"{_MODULES}.scram.ScramLoginModule required;",
        "scram-sha-512": f"{_MODULES}.scram.ScramLoginModule required;",
        # Without a callback handler of its own it accepts tokens that nobody has signed.
        "oauthbearer": f"{_MODULES}.oauthbearer.OAuthBearerLoginModule required "
        'unsecuredLoginStringClaim_sub="broker";',
    }
    return {
        prefix + "sasl.enabled.mechanisms": ",".join(MECHANISMS),
        **{f"{prefix}{name}.sasl.jaas.config": login for name, login in logins.items()},
    }


def _encoded(part: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
