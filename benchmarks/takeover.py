"""How long nobody watches after a monitor was killed: until a standby has its lease, and until its first order.

Run: `python benchmarks/takeover.py` (needs redis-server). Each round has two monitors over one real Redis. The
active one gets SIGKILL at a random moment between two renewals of its lease, and at once the minute arrives
that makes a rollback due. Measured from the signal to the standby's lease in Redis (asked every 5 ms) and to the order
at the receiver.
"""

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

import machine

from abmonitor.watch import RENEW_S


sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))

from support.deployment import Deployment  # only now it can be found
from support.monitors import Nursery, until
from support.servers import RedisServer


ASK_S = 0.005
GOAL_S = 5.0


async def one_round(at: Deployment, chance: random.Random) -> tuple[float, float]:
    """Seconds to the lease and to the order."""
    active = await at.lead()
    standby = at.start()
    await at.until_ticks(standby)
    for errors in (0, 0, 0.5):
        await at.arrive(errors)
        await at.until(at.looked, "everything was looked at")
    await asyncio.sleep(chance.uniform(0, RENEW_S))
    ordered: list[float] = []
    at.router.on_order = lambda: ordered.append(time.monotonic())
    active.kill()
    killed = time.monotonic()
    await at.arrive(0.5)

    async def came() -> bool:
        return bool(ordered)

    await until(lambda: at.leads(standby), "the standby's lease", at.tails, pause=ASK_S)
    leased = time.monotonic() - killed
    await at.until(came, "the order")
    return leased, ordered[0] - killed


async def run(redis: str, rounds: int, folder: Path) -> None:
    """All rounds, one after the other."""
    chance, nursery = random.Random(7), Nursery()
    took = []
    try:
        for number in range(rounds):
            place = folder / f"round-{number}"
            place.mkdir()
            async with Deployment(nursery, redis, place) as at:
                took.append(await one_round(at, chance))
    finally:
        nursery.close()
    for what, seconds in zip(("lease", "first order"), zip(*took, strict=True), strict=True):
        print(
            f"from SIGKILL to the {what:<12} {statistics.median(seconds):5.2f} s median"
            f" {min(seconds):5.2f} s least {max(seconds):5.2f} s most of {rounds}   goal {GOAL_S:g} s"
        )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=20)
    options = arguments.parse_args()
    print(machine.description())
    with RedisServer() as server, tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(server.url, options.rounds, Path(folder)))


if __name__ == "__main__":
    main()
