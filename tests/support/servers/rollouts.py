"""The part of a Kubernetes API server that Argo Rollouts' objects need, in this process; it can be told to misbehave.

tests/alerts/test_argo.py holds it and a real API server to the same.
"""

import asyncio
import copy
import json
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Self

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from support.servers.certificates import Certificates


Json = dict[str, Any]
Rule = Callable[[web.Request], Awaitable[web.StreamResponse | None]]
"""What happens before a request is answered; None lets the usual happen."""

ADMIN = "admin"
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_ROLLOUTS = "/apis/argoproj.io/v1alpha1/namespaces/{namespace}/rollouts"


def merged(target: Any, patch: Any) -> Any:
    """JSON Merge Patch, RFC 7396."""
    if not isinstance(patch, Mapping):
        return patch
    found = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = merged(found.get(key), value)
    return found


def _answer(status: int, reason: str, **headers: str) -> web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason}
    return web.json_response(body | {"code": status}, status=status, headers=headers)


class RolloutServer:
    """Rollouts by namespace and name, with versions, a status subresource, dry runs and rights.

    A user's token is its name; `admin` may do everything, others what `rights` says: pairs of a verb
    and a resource, such as ("patch", "rollouts/status").
    """

    def __init__(self, certificates: Certificates | None = None) -> None:
        """Speaks TLS where there are certificates."""
        self._certificates = certificates
        self.objects: dict[tuple[str, str], Json] = {}
        self.rights: dict[str, set[tuple[str, str]]] = {}
        self.rule: Rule | None = None
        self.has_status = True
        """Whether the definition of Rollouts has a status subresource."""
        self.requests: list[tuple[str, str]] = []
        """Methods and paths that were asked for."""
        self.rehearsed: list[Json] = []
        """What dry runs would have stored."""
        self._version = 0
        self._server: TestServer | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._guard])
        app.router.add_post(_ROLLOUTS, self._create)
        app.router.add_get(_ROLLOUTS + "/{name}", self._get)
        app.router.add_patch(_ROLLOUTS + "/{name}", self._patch)
        app.router.add_patch(_ROLLOUTS + "/{name}/status", self._patch)
        app.router.add_post(REVIEWS, self._review)
        if self._certificates is None:
            self._server = TestServer(app)
            await self._server.start_server()
            return self
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        shown = self._certificates.server
        context.load_cert_chain(shown.certificate, shown.key)
        self._server = TestServer(app, scheme="https")
        await self._server.start_server(ssl=context)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        await self._server.close()

    @property
    def url(self) -> str:
        """Where it listens."""
        assert self._server is not None
        return str(self._server.make_url("")).rstrip("/")

    @property
    def authority(self) -> str | None:
        """The file of the authority that signed its certificate."""
        return None if self._certificates is None else str(self._certificates.authority)

    async def ask(self, method: str, path: str, body: Json | None = None) -> tuple[int, Json]:
        """A status and an answer, as the admin gets them; patches are merge patches."""
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Authorization": f"Bearer {ADMIN}", "Content-Type": kind}
        data = None if body is None else json.dumps(body)
        trusted = True if self._certificates is None else self._certificates.context()
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusted)) as session,
            session.request(method, self.url + path, data=data, headers=headers) as told,
        ):
            return told.status, await told.json()

    def _user(self, request: web.Request) -> str:
        return request.headers.get("Authorization", "").removeprefix("Bearer ")

    def _may(self, user: str, verb: str, resource: str) -> bool:
        return user == ADMIN or (verb, resource) in self.rights.get(user, ())

    @web.middleware
    async def _guard(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs))
        if self.rule is not None and (told := await self.rule(request)) is not None:
            return told
        user = self._user(request)
        if user != ADMIN and user not in self.rights:
            return _answer(401, "Unauthorized")
        if request.path != REVIEWS:
            verb = {"GET": "get", "POST": "create"}.get(request.method, "patch")
            below = "/status" if request.path.endswith("/status") else ""
            if not self._may(user, verb, f"rollouts{below}"):
                return _answer(403, "Forbidden")
        return await handler(request)

    def _found(self, request: web.Request) -> Json | None:
        return self.objects.get((request.match_info["namespace"], request.match_info["name"]))

    async def _create(self, request: web.Request) -> web.Response:
        made: Json = await request.json()
        key = (request.match_info["namespace"], made["metadata"]["name"])
        if key in self.objects:
            return _answer(409, "AlreadyExists")
        if self.has_status:
            made.pop("status", None)
        made["metadata"] |= {"namespace": key[0], "generation": 1}
        return web.json_response(self._store(key, made), status=201)

    def _store(self, key: tuple[str, str], made: Json) -> Json:
        self._version += 1
        made["metadata"]["resourceVersion"] = str(self._version)
        self.objects[key] = made
        return made

    async def _get(self, request: web.Request) -> web.Response:
        found = self._found(request)
        return _answer(404, "NotFound") if found is None else web.json_response(found)

    async def _patch(self, request: web.Request) -> web.Response:
        of_status = request.path.endswith("/status")
        found = self._found(request)
        if found is None or (of_status and not self.has_status):
            return _answer(404, "NotFound")
        if request.content_type != "application/merge-patch+json":
            return _answer(415, "UnsupportedMediaType")
        return self._patched(request, found, json.loads(await request.read()), of_status)

    def _patched(
        self, request: web.Request, found: Json, patch: Json, of_status: bool
    ) -> web.Response:
        made = self._merge(found, patch, of_status=of_status)
        asked = patch.get("metadata", {}).get("resourceVersion")
        if asked is not None and asked != found["metadata"]["resourceVersion"]:
            return _answer(409, "Conflict")
        if not _is_valid(made):
            return _answer(422, "Invalid")
        if request.query.get("dryRun") == "All":
            self.rehearsed.append(made)
            return web.json_response(made)
        if made == found:
            return web.json_response(found)
        key = (request.match_info["namespace"], request.match_info["name"])
        return web.json_response(self._store(key, made))

    def _merge(self, found: Json, patch: Json, *, of_status: bool) -> Json:
        made: Json = merged(copy.deepcopy(found), patch)
        if of_status:
            made = copy.deepcopy(found) | {"status": made.get("status", {})}
        elif self.has_status:
            made["status"] = copy.deepcopy(found.get("status", {}))
        for name in ("name", "namespace", "resourceVersion", "generation"):
            made["metadata"][name] = found["metadata"][name]
        if made.get("spec") != found.get("spec"):
            made["metadata"]["generation"] += 1
        return made

    async def _review(self, request: web.Request) -> web.Response:
        asked: Json = await request.json()
        what = asked["spec"]["resourceAttributes"]
        resource = what["resource"] + ("/" if what.get("subresource") else "")
        resource += what.get("subresource", "")
        allowed = self._may(self._user(request), what["verb"], resource)
        return web.json_response(asked | {"status": {"allowed": allowed}}, status=201)


def _is_valid(made: Json) -> bool:
    notes = made["metadata"].get("annotations", {})
    flags = (made.get("status", {}).get("abort"), made.get("spec", {}).get("paused"))
    return all(isinstance(note, str) for note in notes.values()) and all(
        flag is None or isinstance(flag, bool) for flag in flags
    )


# Rules


def status(code: int, *, method: str = "", below: str = "", **headers: str) -> Rule:
    """Requests of a method, to paths that end so, get this status."""

    async def rule(request: web.Request) -> web.StreamResponse | None:
        if request.method.startswith(method) and request.path.endswith(below):
            return _answer(code, "Told", **headers)
        return None

    return rule


def hang(method: str = "") -> Rule:
    """Requests of a method are never answered."""

    async def rule(request: web.Request) -> web.StreamResponse | None:
        if request.method.startswith(method):
            await asyncio.Event().wait()
        return None

    return rule


def reset(method: str = "") -> Rule:
    """Connections of requests of a method end without an answer."""

    async def rule(request: web.Request) -> web.StreamResponse | None:
        if request.method.startswith(method) and request.transport is not None:
            request.transport.abort()
        return None

    return rule


def say(body: bytes, method: str = "GET") -> Rule:
    """Requests of a method are answered by this, with status 200."""

    async def rule(request: web.Request) -> web.StreamResponse | None:
        if request.method.startswith(method):
            return web.Response(body=body, content_type="application/json")
        return None

    return rule


def kubeconfig(url: str, token: str, authority: str | None = None) -> Json:
    """A kubeconfig; JSON is YAML as well."""
    cluster = {"server": url} | ({"certificate-authority": authority} if authority else {})
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "here", "cluster": cluster}],
        "users": [{"name": "us", "user": {"token": token}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "us"}}],
        "current-context": "here",
    }
