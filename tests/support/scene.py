"""One deployment under test: topics, a known stream, workers, and a verdict on the counts. This module does I/O."""

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metrics.experiment import Experiment
from stream.store import Store
from support.feed import Found, found
from support.known_events import EARLY_FOR, EXPERIMENTS, Events
from support.known_stream import Send, Stream, sender
from support.topics import Topics
from support.verdict import Logged, Place, Read, Verdict, final_in, read_back, read_plainly
from support.workers import Crew, wait_until


SETTLE_S = 90.0
SHARDS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneOptions:
    """What differs between scenes."""

    shards: int = SHARDS
    seed: int = 1
    clean: bool = False
    per_second: float = 150
    clock_skew: str = "3s"
    max_skew: str = "3s"
    rejected_limit: float = 0.9
    experiments: Sequence[Experiment] = EXPERIMENTS


class Scene(AbstractContextManager["Scene"]):
    """One deployment; everything in it is gone after its context."""

    def __init__(self, kafka: str, redis: str, folder: Path, options: SceneOptions) -> None:
        self.kafka, self.redis, self.options = kafka, redis, options
        self._made = Topics(kafka)
        self.deployment = self._made.prefix.strip("-")
        self._stack = ExitStack()
        self.predictions = self._made.create("predictions", options.shards)
        self.outcomes = self._made.create("outcomes", options.shards)
        self.letters = self._made.create("letters", 1, configs={"max.message.bytes": "2097152"})
        settings = folder / "settings.yaml"
        settings.write_text(json.dumps(self._settings()))
        self.crew = self._stack.enter_context(Crew(settings, kafka=kafka, redis=redis))
        events = Events(options.seed, options.shards, clean=options.clean)
        topics = self.predictions, self.outcomes
        self.stream = Stream(kafka, topics, events, per_second=options.per_second)

    def __exit__(self, *_: object) -> None:
        self.stream.give_up()
        self._stack.close()
        self._made.delete()

    def _settings(self) -> dict[str, Any]:
        options = self.options
        return {
            "deployment": self.deployment,
            "early_for": f"{EARLY_FOR}ms",
            "experiments": [_declared(experiment) for experiment in options.experiments],
            "sources": {self.predictions: {}, self.outcomes: {}},
            "kafka": {"dead_letters": self.letters},
            "worker": {
                "session_timeout": "6s",
                "clock_skew": options.clock_skew,
                "max_skew": options.max_skew,
                "rejected_limit": options.rejected_limit,
            },
        }

    def send(self) -> AbstractContextManager[Send]:
        """A context in which records can be sent."""
        return sender(self.kafka)

    def flood(self, predictions: int, *, seed: int) -> None:
        """Send so many predictions at once, with what belongs to them; each time with another `seed`."""
        topics = self.predictions, self.outcomes
        events = Events(seed, self.options.shards, clean=self.options.clean)
        Stream(self.kafka, topics, events).flood(predictions)

    def admin(self) -> AbstractContextManager[Any]:
        """A client that changes topics."""
        return self._made._admin()

    def make_anew(self, topic: str) -> None:
        """Delete a topic and make it again, empty."""
        with self.admin() as admin:
            admin.delete_topics([topic])

            def gone() -> bool:
                return topic not in admin.list_topics()

            wait_until(gone, f"{topic} is deleted", 30)
        self._made.create(topic.removeprefix(self._made.prefix), self.options.shards)

    def logged(self, *topics: str) -> list[Logged]:
        """Everything that is in these topics now, each partition in order."""
        return [record for topic in topics for record in read_back(self.kafka, topic)]

    def settle(self, seconds: float = SETTLE_S, *, read: Read | None = None) -> Verdict:
        """Wait until the store holds exactly what the log says; then look again with all workers gone.

        `read` says what a record is, where the truth cannot.
        """
        logged = self.logged(self.predictions, self.outcomes)
        options = self.options
        verdict = Verdict.of(logged, options.shards, options.experiments, read or read_plainly)
        last: list[str] = []

        def equal() -> bool:
            self.crew.assert_none_failed()
            stores = self.found()
            # The truth costs much, on a machine that has workers to run.
            if final_in(stores) != verdict.predictions:
                last[:] = [f"{final_in(stores)} of {verdict.predictions} labels are final"]
                return False
            try:
                verdict.check(stores)
            except AssertionError as error:
                last[:] = [str(error)]
                return False
            return True

        def told() -> str:
            return "\n".join([*last, verdict.differences(self.found()), self.crew.tails()])

        wait_until(equal, "the counts are what the log says", seconds, told)
        for worker in self.crew.running:
            assert worker.stop() == 0, worker.tail()
        verdict.check(self.found())
        self.check_letters(verdict.unusable)
        if not self.options.clean and read is None:
            self._check_variety()
        return verdict

    def _check_variety(self) -> None:
        """There was something of everything."""
        results = self.results()
        wanted = {"predictions", "outcomes", "duplicate", "late", "unmatched", "ignored"}
        wanted |= {"rejected:empty", "rejected:malformed_json", "rejected:wrong_type"}
        assert wanted <= results.keys(), f"the stream was too short: {results}"

    def found(self) -> list[Found]:
        """What the store has of each shard."""

        async def read() -> list[Found]:
            store = Store.at(self.redis, self.deployment)
            try:
                return [await found(store, shard) for shard in range(self.options.shards)]
            finally:
                await store.close()

        return asyncio.run(read())

    def results(self) -> Counter[str]:
        """What became of the records so far."""
        return sum((Counter(shard.meta.tallies) for shard in self.found()), Counter())

    def check_letters(self, unusable: Mapping[Place, bytes]) -> None:
        """Every record that cannot be used is kept, as it was, and no other one."""
        from stream.dead_letters import from_record  # see `support.topics`

        kept: dict[Place, bytes | None] = {}
        for record in self.logged(self.letters):
            letter = from_record(record.key, record.value, dict(record.headers))
            assert letter is not None, f"not a letter: {record}"
            kept[letter.topic, letter.partition, letter.offset] = letter.value
        assert kept.keys() == unusable.keys()
        assert kept == unusable


def _declared(experiment: Experiment) -> dict[str, Any]:
    labels = experiment.labels
    declared: dict[str, Any] = {
        "horizon": str(labels.horizon),
        "grace": str(labels.grace),
        "cohort": str(labels.cohort),
        "observed": labels.observed,
    }
    if labels.late_for is not None:
        declared["late_for"] = str(labels.late_for)
    return {
        "name": experiment.name,
        "control": experiment.control,
        "variants": dict(experiment.variants),
        "labels": declared,
        "weight_cap": experiment.weight_cap,
    }
