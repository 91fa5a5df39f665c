"""What the settings say about Kafka and Redis: where they are, and how to get in (file system)."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct

from abmonitor.secret import Secret, SecretError
from stream.brokers import Brokers, CertificateError


Topic = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
Group = Annotated[str, Meta(pattern=r"^[^\s]{1,249}$")]
Path = Annotated[str, Meta(min_length=1)]
"""Of a file. A relative one starts at the working directory."""
Protocol = Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"]
Mechanism = Literal["plain", "scram-sha-256", "scram-sha-512", "oauthbearer"]

DEFAULT_KAFKA = Secret(env="ABMONITOR_KAFKA")
DEFAULT_REDIS = Secret(env="ABMONITOR_REDIS")


class KafkaSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where Kafka is, and how to get in."""

    servers: Secret = DEFAULT_KAFKA
    """host:port, several with commas between"""
    group: Group | None = None
    """The consumer group; None means `abmonitor-<deployment>`."""
    dead_letters: Topic = "abmonitor.dead-letters"
    control: Topic | None = "abmonitor.control"
    """Where decisions are logged before they are acted on; null: only in Redis."""
    protocol: Protocol = "plaintext"
    mechanism: Mechanism | None = None
    username: Secret | None = None
    password: Secret | None = None
    token: Secret | None = None
    """For oauthbearer. Read anew each time a token is asked for, so that it can be rotated."""
    ca: Path | None = None
    """Who may sign the brokers' certificates; None means those whom the system trusts."""
    certificate: Path | None = None
    key: Path | None = None
    key_password: Secret | None = None
    check_hostname: bool = True

    def problems(self) -> Iterator[tuple[str, str]]:
        """Fields, and why they do not go together with the others."""
        yield from self._login()
        yield from self._encryption()

    def _login(self) -> Iterator[tuple[str, str]]:
        if not self.protocol.startswith("sasl_"):
            for field in ("mechanism", "username", "password", "token"):
                if getattr(self, field) is not None:
                    yield (
                        field,
                        (
                            f"{field} needs protocol: sasl_ssl or sasl_plaintext, got {self.protocol}"
                        ),
                    )
        elif self.mechanism is None:
            yield (
                "protocol",
                (
                    f"protocol: {self.protocol} needs a mechanism:"
                    " plain, scram-sha-256, scram-sha-512 or oauthbearer"
                ),
            )
        else:
            wanted = ("token",) if self.mechanism == "oauthbearer" else ("username", "password")
            for field in ("username", "password", "token"):
                given = getattr(self, field) is not None
                if field in wanted and not given:
                    example = f"{{env: KAFKA_{field.upper()}}}"
                    yield "mechanism", f"mechanism: {self.mechanism} needs a {field}: {example}"
                elif given and field not in wanted:
                    yield field, f"mechanism: {self.mechanism} has no use for a {field}"

    def _encryption(self) -> Iterator[tuple[str, str]]:
        if not self.protocol.endswith("ssl"):
            for field in ("ca", "certificate", "key", "key_password"):
                if getattr(self, field) is not None:
                    yield field, f"{field} needs protocol: ssl or sasl_ssl, got {self.protocol}"
            if not self.check_hostname:
                yield "check_hostname", f"protocol: {self.protocol} checks no host names"
            return
        for field, other in (
            ("certificate", "key"),
            ("key", "certificate"),
            ("key_password", "key"),
        ):
            if getattr(self, field) is not None and getattr(self, other) is None:
                yield field, f"{field} needs a {other}: the path of a PEM file"

    def brokers(self, environ: Mapping[str, str]) -> Brokers:
        """Look up addresses and secrets.

        Raises SecretError, which names the variable or the file and never contains a value.
        """
        brokers = Brokers(
            _servers(self.servers, environ),
            self.protocol,
            self.mechanism,
            _optional(self.username, environ),
            _optional(self.password, environ),
            None if self.token is None else _Token(self.token, environ),
            self.ca,
            self.certificate,
            self.key,
            _optional(self.key_password, environ),
            self.check_hostname,
        )
        _optional(self.token, environ)  # better missed now than when the first broker asks
        try:
            brokers.tls()
        except CertificateError as error:
            raise SecretError(f"kafka: {error}") from None
        return brokers


class _Token(Struct, frozen=True):
    """Reads the token as it is now; while it cannot be read, clients try again."""

    secret: Secret
    environ: Mapping[str, str]

    def __call__(self) -> str:
        try:
            return self.secret.resolve(self.environ)
        except SecretError as error:
            raise OSError(f"no token: {error}") from None


def _optional(secret: Secret | None, environ: Mapping[str, str]) -> str | None:
    return None if secret is None else secret.resolve(environ)


def _servers(secret: Secret, environ: Mapping[str, str]) -> tuple[str, ...]:
    servers = tuple(part.strip() for part in secret.resolve(environ).split(",") if part.strip())
    for server in servers or ("",):
        host, _, port = server.rpartition(":")
        if not host.strip("[]") or not port.isascii() or not port.isdigit() or int(port) > 65535:
            # Not repeated: whoever mixes up two variables would find a password in the log.
            raise SecretError(f"{secret.source}: expected host:port, several with commas between")
    return servers
