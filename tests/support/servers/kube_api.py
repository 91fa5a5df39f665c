"""A real Kubernetes API server for the tests, where one was built: ABMONITOR_TEST_KUBERNETES. This module does I/O.

tests/support/servers/kubernetes/README.md says how to build it.
"""

import json
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

from support.servers.base import HOST, LocalServer, NoServerError, free_ports
from support.servers.certificates import Certificates, make_certificates


PROGRAM = "ABMONITOR_TEST_KUBERNETES"
"""Where it is."""

ADMIN = "admin"

Json = dict[str, Any]


def program() -> str | None:
    """Where the API server is; None where there is none: building it takes minutes, so nobody is made to."""
    return os.environ.get(PROGRAM)


class KubernetesServer(LocalServer):
    """One API server with its store on free ports, without controllers; rights are those of RBAC.

    A user's token is its name; `admin` may do everything, others what they are given.
    """

    name = "kubernetes"

    def __init__(self, users: Sequence[str] = ()) -> None:
        super().__init__()
        found = program()
        if found is None:
            raise NoServerError(f"no Kubernetes API server: {PROGRAM} is not set")
        self._program, self._users = found, tuple(users)
        self._ports = free_ports(2)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"https://{HOST}:{self._ports[1]}"

    @property
    def authority(self) -> str:
        """The file of the authority that signed its certificate."""
        return str(self._certificates.authority)

    def _prepare(self) -> None:
        self._certificates: Certificates = make_certificates(self.folder)
        self._context: ssl.SSLContext = self._certificates.context()
        lines = [f'{ADMIN},{ADMIN},{ADMIN},"system:masters"']
        lines += [f"{user},{user},{user}" for user in self._users]
        (self.folder / "tokens.csv").write_text("\n".join(lines) + "\n")

    def _command(self) -> Sequence[str]:
        server = self._certificates.server
        return [
            self._program,
            str(self.folder / "store"),
            f"http://{HOST}:{self._ports[0]}",
            f"--bind-address={HOST}",
            f"--secure-port={self._ports[1]}",
            f"--tls-cert-file={server.certificate}",
            f"--tls-private-key-file={server.key}",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://localhost",
            f"--service-account-key-file={server.certificate}",
            f"--service-account-signing-key-file={server.key}",
            "--disable-admission-plugins=ServiceAccount",
            "--service-cluster-ip-range=10.0.0.0/24",
        ]

    def _is_ready(self) -> bool:
        try:
            return self.ask("GET", "/readyz")[0] == 200
        except OSError:
            return False

    def ask(
        self, method: str, path: str, body: Mapping[str, object] | None = None
    ) -> tuple[int, Json]:
        """A status and an answer, as the admin gets them; patches are merge patches."""
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {ADMIN}", "Content-Type": kind},
        )
        try:
            with urllib.request.urlopen(request, timeout=10, context=self._context) as told:
                status, answer = told.status, told.read()
        except urllib.error.HTTPError as error:
            with error:
                status, answer = error.code, error.read()
        try:
            return status, json.loads(answer)
        except ValueError:
            return status, {}
