"""The demo as a stream that tests move: played as far as they want, and served to browsers. This module does I/O (HTTP)."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from abmonitor.api import Api
from abmonitor.api_guard import Guard
from abmonitor.auth import Role, Tokens, line, new_token
from abmonitor.demo.scene import DEFECT_AT, HOST, Scene, scene
from abmonitor.http import serving
from abmonitor.server import application
from abmonitor.view import View
from alerts.standing import Standing, State
from alerts.store import AlertStore


EXPERIMENT, TREATMENT, CONTROL = "term-deposit-offers", "boosted-v2", "rule-v1"
HEALTHY_AT = 2_400
BROKEN_AT = DEFECT_AT + 560
"""Some steps before the rollback: the harm can be seen, and is not proven."""
MANY = 1_000_000
"""Requests a minute: tests hurry."""


@dataclass
class Stage:
    """The demo where it is now, and a server of its monitor."""

    scene: Scene
    folder: Path
    problem: str | None = None
    tokens: dict[str, str] = field(default_factory=dict)

    @property
    def view(self) -> View:
        """What the monitor knows."""
        return self.scene.monitor.view

    @property
    def state(self) -> State:
        """The state of the treatment."""
        return self.view.experiments[EXPERIMENT].book.standings.get(TREATMENT, Standing()).state

    async def play_to(self, served: int) -> View:
        """Go on until so many customers were served."""
        while self.scene.served < served:
            await self.scene.step()
        return self.view

    async def play_all(self) -> dict[str, View]:
        """Play the whole story; gives what there was to see in each act."""
        acts = {"healthy": await self.play_to(HEALTHY_AT), "defect": await self.play_to(BROKEN_AT)}
        while self.state is not State.ROLLED_BACK:
            await self.scene.step()
        acts["rolled-back"] = await self.play_to(self.scene.served + 600)
        return acts

    def token(self, name: str, role: Role = "operate") -> str:
        """Give somebody a token."""
        self.tokens[name], entry = new_token(name, role, ("*",))
        with self.file.open("a") as file:
            file.write(line(entry) + "\n")
        return self.tokens[name]

    @property
    def file(self) -> Path:
        """The file of tokens."""
        return self.folder / "tokens.yaml"

    @asynccontextmanager
    async def served(self, port: int = 0, **guarded: Any) -> AsyncIterator[str]:
        """Where it is served; `ann` may act, `bob` may read. `guarded`: of the guard."""
        if not self.file.exists():
            self.file.write_text("tokens:\n")
            self.token("ann")
            self.token("bob", "read")
        store = self.scene.pipeline._shard.store
        guard = Guard(Tokens(self.file), **{"per_minute": MANY, **guarded})
        kept = AlertStore(store.client, store.deployment)
        api = Api(self.scene.monitor, kept, guard, lambda: self.scene.now)
        app = application(lambda: self.view, lambda: self.problem, api=api)
        async with serving(app, HOST, port) as bound:
            yield f"http://{HOST}:{bound}"


@dataclass
class Still:
    """A view that does not change by itself, and a server of it on which nobody may act."""

    view: View
    problem: str | None = None

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        """Where it is served."""
        api = Api(guard=Guard(per_minute=MANY), clock=lambda: self.view.as_of or 0)
        app = application(lambda: self.view, lambda: self.problem, api=api)
        async with serving(app, HOST, 0) as bound:
            yield f"http://{HOST}:{bound}"


@asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[Stage]:
    """The demo before its first customer."""
    async with AsyncExitStack() as stack:
        playing = await stack.enter_async_context(scene(0))
        await playing.monitor.tick()
        yield Stage(playing, folder)


def fleet(view: View, count: int) -> View:
    """A view of `count` experiments, each as that of the demo."""
    return renamed(view, [f"experiment-{n:03d}" for n in range(count)])


def renamed(view: View, names: Sequence[str]) -> View:
    """A view of experiments such as that of the demo, with these names."""
    shown = view.experiments[EXPERIMENT]
    experiments = {}
    for name in names:
        declared = msgspec.structs.replace(shown.experiment, name=name)
        experiments[name] = replace(shown, experiment=declared)
    snapshots = dict.fromkeys(names, shown.snapshot)
    return replace(
        view,
        experiments=experiments,
        fleet=replace(view.fleet, snapshots=snapshots),
        leads=frozenset(names),
    )
