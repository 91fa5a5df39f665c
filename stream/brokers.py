"""Where Kafka is and how to get in, for each of the client libraries. Reads certificates (file system)."""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiokafka.abc import AbstractTokenProvider as AiokafkaTokenProvider
from kafka.net.sasl.oauth import AbstractTokenProvider as KafkaPythonTokenProvider


class CertificateError(Exception):
    """A certificate or a key cannot be read; names the file, never a password."""


@dataclass(frozen=True, slots=True)
class Brokers:
    """A Kafka cluster."""

    servers: tuple[str, ...]
    """host:port"""
    protocol: str = "plaintext"
    """plaintext, ssl, sasl_plaintext or sasl_ssl"""
    mechanism: str | None = None
    """plain, scram-sha-256, scram-sha-512 or oauthbearer, where the protocol is one of sasl"""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    token: Callable[[], str] | None = field(default=None, repr=False)
    """Gives the token as it is now; called each time a broker asks.

    What clients take for a lost connection, and try again, is an OSError.
    """
    ca: str | None = None
    """Path of the certificates that may sign the brokers'; None means those that the system trusts."""
    certificate: str | None = None
    key: str | None = None
    key_password: str | None = field(default=None, repr=False)
    check_hostname: bool = True

    def __str__(self) -> str:
        """Servers, protocol and who is asking; nothing that is secret."""
        return self.at(*self.servers)

    def at(self, *servers: str) -> str:
        """The same of some of the servers."""
        login = f", {self.mechanism}" if self.mechanism else ""
        user = f" as user {self.username!r}" if self.username else ""
        return f"{', '.join(servers)} ({self.protocol}{login}{user})"

    def aiokafka(self) -> dict[str, Any]:
        """Arguments for clients of aiokafka. Raises CertificateError."""
        token = None if self.token is None else _AiokafkaToken(self.token)
        return self._arguments(token)

    def kafka_python(self) -> dict[str, Any]:
        """Arguments for clients of kafka-python. Raises CertificateError."""
        token = None if self.token is None else _KafkaPythonToken(self.token)
        return self._arguments(token)

    def _arguments(self, token: object) -> dict[str, Any]:
        """The libraries call everything the same but for what gives the token."""
        arguments: dict[str, Any] = {"bootstrap_servers": list(self.servers)}
        if self.protocol != "plaintext":
            arguments["security_protocol"] = self.protocol.upper()
        context = self.tls()
        if context is not None:
            arguments["ssl_context"] = context
        if self.mechanism is not None:
            arguments["sasl_mechanism"] = self.mechanism.upper()
            if token is None:
                arguments["sasl_plain_username"] = self.username
                arguments["sasl_plain_password"] = self.password
            else:
                arguments["sasl_oauth_token_provider"] = token
        return arguments

    def tls(self) -> ssl.SSLContext | None:
        """How to encrypt; None where nothing is encrypted. Raises CertificateError."""
        if not self.protocol.endswith("ssl"):
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except (OSError, ValueError) as error:
            raise CertificateError(f"cannot use {self.ca} as ca: {_reason(error)}") from None
        context.check_hostname = self.check_hostname
        if self.certificate is not None:
            try:
                # Without a password OpenSSL would ask for one at the terminal.
                context.load_cert_chain(self.certificate, self.key, self.key_password or "")
            except (OSError, ValueError) as error:
                raise CertificateError(
                    f"cannot use the certificate {self.certificate} with the key {self.key}:"
                    f" {_reason(error)}"
                ) from None
        return context


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        # Codes of OpenSSL, which say neither what was expected nor what to do.
        kind = error.reason or "the password of the key is wrong or missing"
        return f"expected PEM files that go together, and the key's password if it has one ({kind})"
    return getattr(error, "strerror", None) or str(error)


class _AiokafkaToken(AiokafkaTokenProvider):  # type: ignore[misc]  # the library has no types
    def __init__(self, read: Callable[[], str]) -> None:
        self._read = read

    async def token(self) -> str:
        return await asyncio.to_thread(self._read)


class _KafkaPythonToken(KafkaPythonTokenProvider):  # type: ignore[misc]  # the library has no types
    def __init__(self, read: Callable[[], str]) -> None:
        super().__init__()
        self._read = read

    def token(self) -> str:
        return self._read()
