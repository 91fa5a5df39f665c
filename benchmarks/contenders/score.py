"""What a contender says of its run: one line of JSON. Needs nothing but Python, as each has its own environment."""

import argparse
import json
import sys
import time


def arguments(purpose):
    """The command line that all contenders share."""
    parser = argparse.ArgumentParser(description=purpose)
    parser.add_argument("--kafka", required=True, help="host:port")
    parser.add_argument("--group", required=True, help="consumer group")
    parser.add_argument("--predictions", required=True, help="topic")
    parser.add_argument("--outcomes", required=True, help="topic")
    parser.add_argument(
        "--events", required=True, type=int, help="how many to take, of both topics"
    )
    return parser.parse_args()


class Score:
    """The clock of a run, which begins with the first event that user code sees."""

    def __init__(self):
        self._started = self._cpu = None

    def start(self):
        """The first event is here."""
        self._started, self._cpu = time.monotonic(), time.process_time()

    def tell(self, events, counts=None):
        """The last of `events` was processed; print what it took, and the counts."""
        took, cpu = time.monotonic() - self._started, time.process_time() - self._cpu
        told = {"events": events, "seconds": took, "cpu_seconds": cpu, "counts": counts}
        # Not what some frameworks have put in its place, which logs.
        print(json.dumps(told), file=sys.__stdout__, flush=True)
