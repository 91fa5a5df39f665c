"""A Redis that is killed, forgets its last second, forgets everything, or does not answer."""

import shutil
import time
from collections.abc import Iterator

import pytest
from support.chaos import MakeScene
from support.scene import Scene
from support.servers import RedisServer
from support.workers import wait_until


REWINDS = "abmonitor_worker_rewinds_total"
DUMP_ALL = """
local all = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  all[#all + 1] = key
  all[#all + 1] = redis.call('DUMP', key)
end
return all
"""


@pytest.fixture
def lazy_redis() -> Iterator[RedisServer]:
    """As in many a production: it writes to the disk once a second."""
    with RedisServer(append_only=True, fsync="everysec") as server:
        yield server


def test_counts_are_exact_whatever_happens_to_redis(
    make_scene: MakeScene, lazy_redis: RedisServer, is_long: bool
) -> None:
    scene = make_scene(lazy_redis, per_second=300)
    scene.stream.start()
    scene.crew.hire(2)
    scene.crew.wait_ready()
    for round_ in range(8 if is_long else 1):
        lazy_redis.kill()
        time.sleep(round_ % 3)
        lazy_redis.start()
        _forget(scene, lazy_redis)
        lazy_redis.suspend()
        time.sleep(12 if round_ % 2 else 2)  # at times longer than its clients wait
        lazy_redis.resume()
        _set_back(scene, lazy_redis)
        _empty(scene, lazy_redis)
    scene.stream.finish()
    scene.crew.assert_alive()
    scene.settle()


def _forget(scene: Scene, server: RedisServer) -> None:
    """Set a Redis back by some seconds, as a failover or a lost disk buffer does."""
    older = server.folder / "older"
    shutil.copytree(server.folder / "appendonlydir", older)
    known = _commits(scene)
    wait_until(lambda: _commits(scene) > known + 10, "there are new commits", 30, scene.crew.tails)
    before = _commits(scene)
    server.kill()
    shutil.rmtree(server.folder / "appendonlydir")
    older.rename(server.folder / "appendonlydir")
    server.start()
    # Workers may be back already; they have not made good for everything yet.
    assert _commits(scene) < before, "Redis has forgotten nothing"


def _set_back(scene: Scene, server: RedisServer) -> None:
    """The same while all connections stay, so that nothing but the positions tells of it."""
    with server.client() as client:
        older = client.eval(DUMP_ALL, 0)
        known = _commits(scene)
        more = "there are new commits"
        wait_until(lambda: _commits(scene) > known + 10, more, 30, scene.crew.tails)
        before = scene.crew.total(REWINDS)
        with client.pipeline(transaction=True) as pipeline:
            pipeline.flushall()
            for key, value in zip(older[::2], older[1::2], strict=True):
                pipeline.restore(key, 0, value)
            pipeline.execute()
    rewound = "workers go back"
    wait_until(lambda: scene.crew.total(REWINDS) > before, rewound, 30, scene.crew.tails)


def _empty(scene: Scene, server: RedisServer) -> None:
    """Let a Redis forget everything, and wait until every shard is being counted anew."""
    before = {shard.meta.lineage for shard in scene.found()}
    with server.client() as client:
        client.flushall()

    def rebuilt() -> bool:
        now = [shard.meta.lineage for shard in scene.found()]
        return all(now) and before.isdisjoint(now)

    wait_until(rebuilt, "every shard has a new lineage", 60, scene.crew.tails)


def _commits(scene: Scene) -> int:
    return sum(shard.meta.seq for shard in scene.found())
