"""Forks and exits of real processes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest


if TYPE_CHECKING:
    from tests.client.conftest import Pair


CLIENT = Path(__file__).parents[2] / "client"
PRELUDE = """
import json, os, sys, threading
sys.path.insert(0, {client!r})
from abmonitor_client import ExperimentClient
client = ExperimentClient({servers!r}, predictions={predictions!r}, outcomes={outcomes!r}, strict=True)
def tell(*ids):
    for each in ids:
        client.predicted("e", "v", each, predicted=True)
def report():
    return json.dumps(client.counts()._asdict())
"""
FORK = """
read, write = os.pipe()
child = os.fork()
if not child:
    {child}
    os.write(write, report().encode())
    {leave}
os.close(write)
{parent}
told = open(read).read()
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
client.close(30)
print(json.dumps([json.loads(report()), json.loads(told), status]))
"""
COUNTS = {"buffer_full": 0, "send_failed": 0, "invalid": 0, "closed": 0}


def counts(sent: int) -> dict[str, Any]:
    return {"sent": sent, "dropped": COUNTS, "pending": 0}


def run(pair: "Pair", script: str) -> str:
    """What a process prints that makes a client and runs `script`."""
    names = {"predictions": pair.predictions, "outcomes": pair.outcomes}
    prelude = PRELUDE.format(client=str(CLIENT), servers=pair.servers, **names)
    done = subprocess.run(
        [sys.executable, "-c", prelude + script],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def ids(pair: "Pair") -> list[str]:
    return sorted(record.id for record in pair.arrived(pair.predictions))


@pytest.mark.parametrize("leave", ["sys.exit(0)", "os._exit(0)"])
@pytest.mark.parametrize("warm_up", ["", "tell('before'); assert client.flush(30)"])
def test_a_client_made_before_a_fork_works_on_both_sides(
    pair: "Pair", warm_up: str, leave: str
) -> None:
    script = FORK.format(
        child="tell('child'); assert client.flush(30)", leave=leave, parent="tell('parent')"
    )
    parent, child, status = json.loads(run(pair, warm_up + "\n" + script))
    assert status == 0
    assert child == counts(1)
    assert parent == counts(2 if warm_up else 1)
    assert ids(pair) == sorted(["child", "parent", *(["before"] if warm_up else [])])


def test_a_child_does_not_send_what_its_parent_still_had_to_send(pair: "Pair") -> None:
    waiting = "tell(*(f'parent-{n}' for n in range(500)))\n"
    script = waiting + FORK.format(
        child="assert not client.pending; tell('child')", leave="sys.exit(0)", parent=""
    )
    parent, _, status = json.loads(run(pair, script))
    assert status == 0
    assert parent == counts(500)
    assert ids(pair) == sorted(["child", *(f"parent-{number}" for number in range(500))])


def test_a_child_works_even_if_the_fork_caught_other_threads_in_the_middle_of_a_call(
    pair: "Pair",
) -> None:
    busy = """
stop = threading.Event()
def keep_telling():
    while not stop.is_set():
        client.outcome("r", True)
threads = [threading.Thread(target=keep_telling) for _ in range(3)]
for thread in threads: thread.start()
statuses = []
for number in range(10):
    child = os.fork()
    if not child:
        tell(f"child-{number}")
        os._exit(0 if client.flush(30) else 1)
    statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
stop.set()
for thread in threads: thread.join()
print(json.dumps(statuses))
"""
    assert json.loads(run(pair, busy)) == [0] * 10
    assert ids(pair) == sorted(f"child-{number}" for number in range(10))


def test_a_closed_client_stays_closed_in_a_child(pair: "Pair") -> None:
    script = "client.close()\n" + FORK.format(child="tell('child')", leave="os._exit(0)", parent="")
    _, child, _ = json.loads(run(pair, script))
    assert child["dropped"]["closed"] == 1
    assert ids(pair) == []


def test_what_is_pending_at_the_exit_of_a_process_is_still_sent(pair: "Pair") -> None:
    run(pair, "tell('warm'); client.flush(30); tell(*(f'r-{n}' for n in range(1_000)))")
    assert ids(pair) == sorted(["warm", *(f"r-{number}" for number in range(1_000))])


def test_a_process_ends_although_kafka_is_not_there(pair: "Pair") -> None:
    nowhere = "client = ExperimentClient('127.0.0.1:1')\n"
    last = "import atexit; atexit.register(lambda: print(report()))\n"  # runs before the client's
    assert json.loads(run(pair, nowhere + last + "tell('r-1')"))["pending"] == 1
