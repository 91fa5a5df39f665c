"""What a call costs the thread that makes it, and an event the process.

python client/benchmark.py 127.0.0.1:9092     # makes two topics, and deletes them
"""

import secrets
import sys
import time
from collections.abc import Callable

from kafka import KafkaAdminClient

from abmonitor_client import ExperimentClient, assign


CALLS = 100_000
SECONDS = 4
SPLIT = {"rules-v1": 0.5, "ranker-v2": 0.5}


def told(client: ExperimentClient, number: int) -> None:
    """A prediction as services tell it."""
    client.predicted(
        "offer-recommender", "ranker-v2", f"r-{number}", predicted=True, latency_ms=12.5, score=0.7
    )


def timed(client: ExperimentClient, number: int) -> None:
    """The same, measured."""
    with client.timed("offer-recommender", "ranker-v2", f"r-{number}") as request:
        request.predicted = True


def thread_us(call: Callable[[int], object]) -> float:
    """Microseconds of the calling thread's CPU time for one call."""
    started = time.thread_time()
    for number in range(CALLS):
        call(number)
    return (time.thread_time() - started) / CALLS * 1e6


def show_calls() -> None:
    """Calls alone, with nobody to send to."""
    client = ExperimentClient("127.0.0.1:1", buffer=2 * CALLS)
    calls: dict[str, Callable[[int], object]] = {
        "predicted": lambda number: told(client, number),
        "timed": lambda number: timed(client, number),
        "outcome": lambda number: client.outcome(f"r-{number}", actual=True),
        "assign": lambda number: assign(number, "offer-recommender", SPLIT),
    }
    for name, call in calls.items():
        print(f"{name:<10} {thread_us(call):5.1f} us")
    client.close(0)


def show_rate(client: ExperimentClient, rate: int) -> None:
    """Calls at a steady rate, while events are sent: waits for the interpreter's lock included."""
    took, started, cpu = [], time.perf_counter(), time.process_time()
    for number in range(rate * SECONDS):
        time.sleep(max(started + number / rate - time.perf_counter(), 0))
        before = time.perf_counter()
        told(client, number)
        took.append((time.perf_counter() - before) * 1e6)
    cpu = (time.process_time() - cpu) / SECONDS
    took.sort()
    middle, high, higher = (took[int(share * (len(took) - 1))] for share in (0.5, 0.99, 0.999))
    print(
        f"{rate:5}/s  p50 {middle:.0f} us, p99 {high:.0f} us, p99.9 {higher:.0f} us; {cpu:.1%} of a core"
    )


def main(servers: str) -> None:
    """Measure, and print."""
    show_calls()
    names = [f"benchmark-{secrets.token_hex(4)}-{kind}" for kind in ("predictions", "outcomes")]
    with KafkaAdminClient(bootstrap_servers=servers) as admin:
        wanted = {"num_partitions": 3, "replication_factor": 1}
        admin.create_topics(dict.fromkeys(names, wanted), wait_for_metadata=True)
        try:
            with ExperimentClient(servers, predictions=names[0], outcomes=names[1]) as client:
                told(client, 0)
                client.flush()
                for rate in (100, 500, 2_000):
                    show_rate(client, rate)
        finally:
            admin.delete_topics(names)


if __name__ == "__main__":
    main(sys.argv[1])
