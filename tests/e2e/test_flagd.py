"""What customers get: our flags, read by OpenFeature's provider for flagd, and by flagd where one is installed."""

import asyncio
import logging
import math
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import msgspec
import pytest
import support.flag_writer as writer_program
from aiohttp import web
from aiohttp.test_utils import TestServer
from support.eventfiles import traffic
from support.servers.flagd import FlagdServer
from support.views import view_of

from abmonitor.flags import PATH, Published, routes
from abmonitor.view import View
from alerts.actuators.flag_definition import Shown
from alerts.actuators.flagd import Flagd, FlagdOptions
from alerts.order import Order, Verification
from alerts.standing import Standing, State


CUSTOMERS = range(2_000)
SPLIT = {"rules-v1": 0.7, "ranker-v2": 0.2, "ranker-v3": 0.1}
SHOWN = Shown(experiment="offers", control="rules-v1", split=SPLIT)
ORDER = Order(
    id="offers:ranker-v2:7:1",
    experiment="offers",
    treatment="ranker-v2",
    control="rules-v1",
    decided_at=7,
)
NOTHING = "what the code has as default"
TRIES, PAUSE_S = 200, 0.1


class Reader(Protocol):
    """Whoever evaluates flags."""

    async def ask(self, customer: str | None, flag: str = "offers") -> str:
        """The variant of a customer, or NOTHING where there is no such flag."""
        ...


@dataclass(slots=True)
class Provider:
    """OpenFeature's provider for flagd, in the process of a model service."""

    client: Any

    async def ask(self, customer: str | None, flag: str = "offers") -> str:
        from openfeature.evaluation_context import EvaluationContext

        return str(self.client.get_string_value(flag, NOTHING, EvaluationContext(customer)))


@dataclass(slots=True)
class Server:
    """A flagd, asked by HTTP."""

    url: str
    session: aiohttp.ClientSession

    async def ask(self, customer: str | None, flag: str = "offers") -> str:
        context = {} if customer is None else {"targetingKey": customer}
        sent = {"context": context}
        async with self.session.post(f"{self.url}/{flag}", json=sent) as answer:
            found = await answer.json()
            return str(found["value"]) if answer.status == 200 else NOTHING


@asynccontextmanager
async def provider_of(path: Path) -> AsyncIterator[Reader]:
    try:
        from openfeature import api
        from openfeature.contrib.provider.flagd import FlagdProvider
        from openfeature.contrib.provider.flagd.config import ResolverType
    except ImportError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))
    before = set(threading.enumerate())
    provider = FlagdProvider(
        resolver_type=ResolverType.FILE, offline_flag_source_path=str(path), deadline_ms=10
    )
    api.set_provider_and_wait(provider, "test")
    yield Provider(api.get_client("test"))
    provider.shutdown()
    for watching in set(threading.enumerate()) - before:
        if watching.name.startswith("Flagd"):
            watching.join()


@asynccontextmanager
async def server_of(source: dict[str, object]) -> AsyncIterator[Reader]:
    server = FlagdServer(source)
    await asyncio.to_thread(server.__enter__)
    try:
        async with aiohttp.ClientSession() as session:
            yield Server(server.url, session)
    finally:
        await asyncio.to_thread(server.__exit__)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "flags.json"


@pytest.fixture
def flagd(path: Path) -> Flagd:
    return Flagd.at(FlagdOptions(path=str(path)))


@pytest.fixture(params=["provider", pytest.param("flagd", marks=pytest.mark.flagd)])
async def reader(request: pytest.FixtureRequest, path: Path, flagd: Flagd) -> AsyncIterator[Reader]:
    """Whoever reads the file, in which the experiment is shown."""
    await flagd.show(SHOWN)
    source: dict[str, object] = {"uri": str(path), "provider": "file"}
    reading = provider_of(path) if request.param == "provider" else server_of(source)
    async with reading as found:
        yield found


async def dealt(reader: Reader) -> list[str]:
    return [await reader.ask(f"customer {number}") for number in CUSTOMERS]


async def until(is_so: Callable[[list[str]], bool], reader: Reader) -> list[str]:
    """What customers get, as soon as it is so."""
    for _ in range(TRIES):
        found = await dealt(reader)
        if is_so(found):
            return found
        await asyncio.sleep(PAUSE_S)
    pytest.fail(f"customers still get {Counter(found)}")


def gone(found: Iterable[str]) -> bool:
    return "ranker-v2" not in set(found)


def moved(before: list[str], after: list[str]) -> Counter[tuple[str, str]]:
    both = zip(before, after, strict=True)
    return Counter((one, other) for one, other in both if one != other)


def as_declared(found: list[str], split: dict[str, float]) -> None:
    """Every share is within 4.5 standard errors: one run in a hundred thousand is not."""
    assert set(found) == set(split)
    for name, share in split.items():
        error = math.sqrt(share * (1 - share) / len(found))
        assert abs(found.count(name) / len(found) - share) < 4.5 * error


async def test_a_rollback_moves_the_treatments_customers_to_the_control_and_nobody_else(
    reader: Reader, flagd: Flagd
) -> None:
    before = await dealt(reader)
    as_declared(before, SPLIT)
    assert (await flagd.apply(ORDER)).accepted
    after = await until(gone, reader)
    assert moved(before, after) == {("ranker-v2", "rules-v1"): before.count("ranker-v2")}
    assert await flagd.verify(ORDER) is Verification.DONE
    await flagd.apply(
        msgspec.structs.replace(ORDER, id="offers:ranker-v3:8:2", treatment="ranker-v3")
    )
    await until(lambda found: set(found) == {"rules-v1"}, reader)
    await flagd.show(msgspec.structs.replace(SHOWN, epochs={"ranker-v2": 2, "ranker-v3": 2}))
    await until(lambda found: found == before, reader)


async def test_a_tiny_share_is_dealt_as_well(reader: Reader, flagd: Flagd) -> None:
    split = {"rules-v1": 0.995, "ranker-v2": 0.005}
    await flagd.show(msgspec.structs.replace(SHOWN, split=split))
    as_declared(await until(lambda found: "ranker-v3" not in found, reader), split)


async def test_a_customer_without_a_key_gets_the_control(reader: Reader) -> None:
    logging.getLogger("openfeature.contrib").setLevel(logging.CRITICAL)
    assert await reader.ask(None) == "rules-v1"


async def test_flags_of_other_people_are_served_as_before(
    reader: Reader, path: Path, flagd: Flagd
) -> None:
    theirs = {"state": "ENABLED", "variants": {"on": "theirs"}, "defaultVariant": "on"}
    add(path, "banner", theirs)
    await flagd.apply(ORDER)
    await until(gone, reader)
    assert await reader.ask("customer 1", "banner") == "theirs"


def add(path: Path, key: str, flag: Mapping[str, object]) -> None:
    whole = msgspec.json.decode(path.read_bytes())
    whole["flags"][key] = flag
    path.write_bytes(msgspec.json.encode(whole))


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A process that changes the file all the time, and is killed at the end."""
    command = [sys.executable, str(writer_program.__file__), str(path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"writing\n"
        yield
        running.kill()


async def test_customers_never_get_nothing_while_writers_are_killed(
    path: Path, reader: Reader
) -> None:
    seen: set[str] = set()
    for _ in range(6):
        with writing(path):
            for number in range(300):
                seen.add(await reader.ask(f"customer {number}"))
        seen |= set(await dealt(reader))
    assert NOTHING not in seen
    assert {"control", "treatment"} <= seen


# --- flagd's HTTP sync -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def looked() -> View:
    view = view_of(traffic(200))
    return replace(view, as_of=1_772_366_400_000, leads=frozenset({"offers"}))


def standing_at(view: View, standing: Standing) -> View:
    one = view.experiments["offers"]
    (treatment,) = one.experiment.treatments
    book = msgspec.structs.replace(one.book, standings={treatment: standing})
    return replace(view, experiments={"offers": replace(one, book=book)})


@dataclass(slots=True)
class Known:
    """What the monitor knows, and why that is not to be relied on."""

    view: View
    problem: str | None = None


@pytest.mark.flagd
async def test_flagd_fetches_the_flags_and_keeps_them_while_the_monitor_knows_nothing(
    looked: View,
) -> None:
    known, asked = Known(looked), Counter[int]()
    app = web.Application(middlewares=[counting(asked)])
    app.add_routes(routes(Published(lambda: known.view, lambda: known.problem)))
    async with TestServer(app) as site:
        source: dict[str, object] = {
            "uri": str(site.make_url(PATH)),
            "provider": "http",
            "interval": 1,
        }
        async with server_of(source) as reader:
            before = await dealt(reader)
            as_declared(before, {"old": 0.5, "new": 0.5})
            await answered(asked, 304)
            known.problem = "the store does not answer"
            await answered(asked, 503)
            assert await dealt(reader) == before
            known.problem = None
            known.view = standing_at(looked, Standing(state=State.ROLLING_BACK, decision="d"))
            after = await until(lambda found: set(found) == {"old"}, reader)
            assert moved(before, after) == {("new", "old"): before.count("new")}


def counting(asked: Counter[int]) -> Any:
    """A middleware that counts answers by status."""

    @web.middleware
    async def count(request: web.Request, handler: Any) -> web.StreamResponse:
        answer: web.StreamResponse = await handler(request)
        asked[answer.status] += 1
        return answer

    return count


async def answered(asked: Counter[int], status: int) -> None:
    """Wait until somebody got this answer."""
    for _ in range(TRIES):
        if asked[status]:
            return
        await asyncio.sleep(PAUSE_S)
    pytest.fail(f"nobody was answered {status}: {asked}")
