"""A Redis that speaks only TLS, and only with users that it knows. This module does I/O."""

from typing import Any

import redis

from support.servers.base import HOST
from support.servers.certificates import Certificates, make_certificates
from support.servers.redis import RedisServer


USER, PASSWORD = "worker", "worker-secret"


class SecuredRedis(RedisServer):
    """TLS, a user with a password and no default user; with `mutual`, also a certificate of the client."""

    name = "redis-tls"

    def __init__(self, *, mutual: bool = False) -> None:
        super().__init__()
        self._mutual = mutual
        self.user, self.password = USER, PASSWORD
        self._certificates: Certificates | None = None

    @property
    def certificates(self) -> Certificates:
        """What it shows, and what it accepts; there are some inside of its context."""
        assert self._certificates is not None, "it runs only inside of its context"
        return self._certificates

    @property
    def url(self) -> str:
        """Its address, with user and password, without the files that TLS needs."""
        return f"rediss://{self.user}:{self.password}@{HOST}:{self.port}/0"

    def tls(self) -> dict[str, Any]:
        """The arguments of a client of redis-py for TLS."""
        shown = self.certificates.client
        files = {"ssl_certfile": str(shown.certificate), "ssl_keyfile": str(shown.key)}
        return {"ssl_ca_certs": str(self.certificates.authority)} | (files if self._mutual else {})

    def client(self) -> "redis.Redis":
        """A client, to be closed by the caller."""
        return redis.Redis.from_url(self.url, socket_timeout=5, **self.tls())

    def _prepare(self) -> None:
        self._certificates = make_certificates(self.folder)
        rules = f"user default off\nuser {self.user} on >{self.password} ~* &* +@all\n"
        (self.folder / "users.acl").write_text(rules)
        super()._prepare()

    def _options(self) -> dict[str, str]:
        return super()._options() | {
            "port": "0",
            "tls-port": str(self.port),
            "tls-cert-file": str(self.certificates.server.certificate),
            "tls-key-file": str(self.certificates.server.key),
            "tls-ca-cert-file": str(self.certificates.authority),
            "tls-auth-clients": "yes" if self._mutual else "no",
            "aclfile": str(self.folder / "users.acl"),
        }
