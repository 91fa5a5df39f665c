"""Dealing by a feature flag: an OpenFeature client reads the flag file that the monitor writes. This module does I/O (files).

The client is the provider for flagd in file mode, as a model service would have it: no server is needed. It
looks at the file a few times a second, while the demo's clock runs faster than anybody's; so the demo waits
until the provider has read what was written, which makes its result the same each time.
"""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from abmonitor.flags import Following
from abmonitor.view import View
from alerts.actuators.flag_definition import Shown, dealing, shared
from alerts.actuators.flag_file import FlagFile
from alerts.actuators.flagd import Flagd, FlagdOptions
from metrics.experiment import Experiment


INSTALL = (
    "OpenFeature's provider for flagd is not installed: pip install 'abmonitor[flagd]'"
    ' (in a clone: make demo ARGS="--actuator flagd")'
)
POLL_MS = 20
"""How often the provider looks at the file."""

PATIENCE_S = 10.0
DOMAIN = "abmonitor-demo"


class MissingError(Exception):
    """What the demo needs for this is not installed."""


@dataclass(slots=True)
class ByFlag:
    """Asks the flag, as any service would."""

    client: Any
    """An OpenFeature client."""
    flag: str
    control: str
    _first: dict[int, str]
    """By customer, what the flag said before anything was rolled back."""

    def belongs(self, customer: int) -> str:
        """What the flag said at the start."""
        return self._first[customer]

    def deal(self, customer: int) -> str:
        """What the flag says now."""
        return self.asked(self.client, self.flag, self.control, customer)

    def stop(self) -> None:
        """Nothing: the flag tells, and no order comes to the router."""

    @staticmethod
    def asked(client: Any, flag: str, control: str, customer: int) -> str:
        """Evaluate the flag for one customer; the control is what the code has as default."""
        from openfeature.evaluation_context import EvaluationContext  # noqa: PLC0415  # an extra

        context = EvaluationContext(targeting_key=str(customer))
        return str(client.get_string_value(flag, control, context))


@dataclass(slots=True)
class Flagging:
    """The flag file of the demo, and who reads it."""

    actuator: Flagd
    deals: ByFlag
    path: Path
    _following: Following

    async def follow(self, view: View) -> bool:
        """Show what the monitor has decided; whether the flag gives everybody the control."""
        await self._following.follow(view)
        deadline = time.monotonic() + PATIENCE_S
        while not self._is_read():
            if time.monotonic() > deadline:
                raise RuntimeError(f"OpenFeature has not read {self.path} for {PATIENCE_S:g} s")
            await asyncio.sleep(POLL_MS / 1000)
        return self.shares.keys() == {self.deals.control}

    @property
    def flag(self) -> dict[str, Any]:
        """The flag as it is in the file."""
        found: dict[str, Any] = json.loads(self.path.read_bytes())["flags"][self.deals.flag]
        return found

    @property
    def shares(self) -> dict[str, float]:
        """By variant, the share of customers (of 1) that the flag deals to it."""
        parts: dict[str, float] = {}
        for name, weight in dealing(self.flag) or ():
            parts[name] = parts.get(name, 0.0) + weight
        return {name: float(share) for name, share in shared(parts).items()}

    def _is_read(self) -> bool:
        """Whether the client knows the newest metadata, in which a rollback shows."""
        from openfeature.evaluation_context import EvaluationContext  # noqa: PLC0415  # an extra

        # Anybody's key will do; without one the provider warns at each look.
        anybody = EvaluationContext(targeting_key=DOMAIN)
        details = self.deals.client.get_string_details(self.deals.flag, self.deals.control, anybody)
        return bool(details.flag_metadata == self.flag["metadata"])


@asynccontextmanager
async def flagging(
    declared: Experiment, customers: Iterable[int], at: int
) -> AsyncIterator[Flagging]:
    """A flag file with the declared split, an actuator for it, and a client that reads it.

    Raises MissingError where OpenFeature is not installed.
    """
    name, control = declared.name, declared.control
    with TemporaryDirectory(prefix="abmonitor-demo-") as folder:
        path = Path(folder) / "flags.json"
        actuator = Flagd(FlagFile(path), FlagdOptions(path=str(path)))
        await actuator.show(Shown(experiment=name, control=control, split=declared.split_at(at)))
        with _client(path) as client:
            first = {each: ByFlag.asked(client, name, control, each) for each in customers}
            deals = ByFlag(client, name, control, first)
            yield Flagging(actuator, deals, path, Following({name: actuator}))
        await actuator.close()


@contextmanager
def _client(path: Path) -> Iterator[Any]:
    """An OpenFeature client whose flags are in the file."""
    try:
        from openfeature import api  # noqa: PLC0415  # an extra
        from openfeature.contrib.provider.flagd import FlagdProvider  # noqa: PLC0415
        from openfeature.contrib.provider.flagd.config import ResolverType  # noqa: PLC0415
    except ImportError as error:
        raise MissingError(INSTALL) from error
    others = set(threading.enumerate())
    provider = FlagdProvider(
        resolver_type=ResolverType.FILE,
        offline_flag_source_path=str(path),
        deadline_ms=POLL_MS,  # in file mode this is how often it looks
    )
    try:
        api.set_provider_and_wait(provider, DOMAIN)
        yield api.get_client(DOMAIN)
    finally:
        provider.shutdown()
        for watching in set(threading.enumerate()) - others:
            if watching.name.startswith("Flagd"):
                watching.join(PATIENCE_S)  # before its file goes
