"""Whether the configured Redis can hold what will be remembered. Does I/O (Redis)."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from redis.exceptions import RedisError, ResponseError

from abmonitor import checks
from abmonitor.live.events import Read
from abmonitor.live.findings import Finding, Level
from abmonitor.secret import SecretError
from abmonitor.settings import ExperimentSettings, Settings
from stream.events import Prediction
from stream.redis_address import AddressError
from stream.redis_health import OLDEST, infos
from stream.store import Store


ANSWER_S = 3.0
MIB = 2**20


def store_findings(
    settings: Settings, reads: Sequence[Read], environ: Mapping[str, str]
) -> Iterator[Finding]:
    """All that is to be said of Redis, and of the memory that the experiments will need there."""
    rated = _with_rates(settings, _rates(reads))
    reports = checks.check(rated)["experiments"]
    for declared, found in zip(settings.experiments, rated.experiments, strict=True):
        yield from _need(declared, found.predictions_per_second, reports[found.name])
    where = f"Redis ({settings.redis.source})"
    try:
        nodes = asyncio.run(_infos(settings.redis.resolve(environ)))
    except (SecretError, AddressError) as error:
        yield Finding("error", "redis", where, f"cannot be used: {error}")
        return
    except ResponseError as error:  # a managed Redis may hide it, and so may its access control
        told = f"it does not say how it is set up ({error}): see yourself that maxmemory-policy is noeviction"
        yield Finding("warning", "redis", where, told)
        return
    except (RedisError, OSError) as error:  # a TimeoutError is an OSError
        told = str(error) or f"no answer within {ANSWER_S:g} s"
        yield Finding("error", "redis", where, f"cannot be used: {told}")
        return
    needed = sum(map(_needed, reports.values())) // len(nodes)  # shards spread over the nodes
    for name, info in nodes.items():
        place = f"{where} at {name}" if name else where
        yield _version(info, place)
        yield _policy(info, place)
        yield _memory(info, needed, place)


async def _infos(url: str) -> dict[str, dict[str, Any]]:
    store = Store.at(url)
    try:
        async with asyncio.timeout(ANSWER_S):
            return await infos(store.client)
    finally:
        await store.close()


def _rates(reads: Sequence[Read]) -> dict[str, float]:
    """Predictions a second by experiment, as far as recent records tell."""
    rates: dict[str, float] = {}
    for read in reads:
        arrivals: dict[int, list[int]] = {}
        for record in read.sample.records:
            arrivals.setdefault(record.partition, []).append(record.arrival)
        took = {number: found[-1] - found[0] for number, found in arrivals.items()}
        for record, event in read.told(Prediction):
            if isinstance(event, Prediction) and took[record.partition] > 0:
                share = 1000 / took[record.partition]
                rates[event.experiment] = rates.get(event.experiment, 0.0) + share
    return rates


def _with_rates(settings: Settings, rates: Mapping[str, float]) -> Settings:
    """The settings with the rates that were seen, where none is declared."""
    experiments = tuple(
        msgspec.structs.replace(each, predictions_per_second=rates[each.name])
        if each.predictions_per_second is None and each.name in rates
        else each
        for each in settings.experiments
    )
    return msgspec.structs.replace(settings, experiments=experiments)


def _needed(report: Mapping[str, Any]) -> int:
    """Bytes, as far as they can be told."""
    return (report["redis_bytes_join_state"] or 0) + int(report["redis_bytes_ledgers_90_days"])


def _need(
    declared: ExperimentSettings, rate: float | None, report: Mapping[str, Any]
) -> Iterator[Finding]:
    """What one experiment needs, and what is worth knowing of it."""
    for warning in report["warnings"]:
        yield Finding("warning", "settings", declared.name, warning)
    if rate is not None:
        how = "as declared" if declared.predictions_per_second else "as recent records come"
        pending, ledgers = report["redis_bytes_join_state"], report["redis_bytes_ledgers_90_days"]
        told = (
            f"needs {_mib(_needed(report))} of Redis at {rate:,.4g} predictions a second ({how}):"
        )
        told += f" {_mib(pending)} for what is remembered, {_mib(ledgers)} for 90 days of ledgers"
        yield Finding("ok", "memory_needed", declared.name, told)


def _version(info: Mapping[str, Any], where: str) -> Finding:
    given = str(info.get("redis_version", ""))
    name = f"{info.get('server_name', 'redis')} {info.get('valkey_version', given)}"
    parts = tuple(int(part) for part in given.split(".")[:2] if part.isdigit())
    if parts < OLDEST:
        return Finding("error", "redis_version", where, f"it is {name}; expected 7.0 or newer")
    return Finding("ok", "redis_version", where, f"it is {name}")


def _policy(info: Mapping[str, Any], where: str) -> Finding:
    policy = info.get("maxmemory_policy", "unknown")
    if policy == "noeviction":
        return Finding("ok", "redis_policy", where, "it never throws anything away (noeviction)")
    return Finding(
        "error",
        "redis_policy",
        where,
        f"maxmemory-policy is {policy}: when memory is short, Redis would silently throw away counts;"
        " set maxmemory-policy noeviction",
    )


def _memory(info: Mapping[str, Any], needed: int, where: str) -> Finding:
    """Whether what is needed has room; what other deployments keep there is not known."""
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    room = limit or int(info.get("total_system_memory", 0))
    told = f"{_mib(needed)} are needed; {_mib(used)} are used"
    told += f" of maxmemory {_mib(limit)}" if limit else f", and the machine has {_mib(room)}"
    level: Level = "ok"
    if needed > room:
        level, told = "error", f"{told}: that is too little; give Redis more memory"
    elif needed > room - used:
        level = "warning"
        told += ": what is free is less than that; unless what is used is this deployment's, give it more"
    elif not limit:
        level = "warning"
        told += ": without maxmemory Redis takes memory until the system ends it; set maxmemory, so that"
        told += " it refuses writes instead and workers wait"
    return Finding(level, "redis_memory", where, told)


def _mib(size: int) -> str:
    return f"{size / MIB:,.1f} MiB"
