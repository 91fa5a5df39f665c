"""The queues a shard keeps, and which of their ids are due.

- `mark:<landmark>:<experiment>`: predictions until it is final which labels come within the landmark;
- `due:<experiment>`: the same predictions until their label is final; then they go on to
- `forget:<experiment>`: predictions until their id is forgotten;
- `expire`: outcomes that came first, until they have waited long enough.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from metrics.layout import Keys, Meta
from stream.maturity import Chunk, Harvest, harvest
from stream.resp import Command
from stream.screen import Spec


HEAD_CHUNKS = 8
"""Chunks read from the head of a queue at a time."""

EXPIRE = "expire"


@dataclass(frozen=True, slots=True)
class Queue:
    """One queue of a shard: its name, and how far behind the watermark its ids are due."""

    name: str
    delay: int
    moves_to: str | None = None
    spec: Spec | None = None
    awaits_labels: bool = False
    """Only goes on while outcomes keep coming: silence is not "everybody declined"."""
    landmark: int | None = None
    follows: tuple[str, ...] = ()
    """Queues with the same ids that may not be overtaken: behind this one, ids are forgotten."""

    @property
    def grace(self) -> int:
        """How far ahead of the latest outcome (ms) outcomes are trusted to be complete."""
        return int(self.spec.experiment.labels.grace) if self.spec else 0

    @property
    def is_last(self) -> bool:
        """What is swept from here is forgotten for good."""
        return self.spec is not None and not self.awaits_labels and self.moves_to is None

    def limit(self, watermark: int | None, told: int | None) -> int | None:
        """Ids that arrived before this are due, None while nothing can be.

        `told`: the latest time of any outcome, so far labels are known.
        """
        if watermark is None:
            return None
        if self.awaits_labels:
            if told is None:
                return None
            watermark = min(watermark, told + self.grace)
        return watermark - self.delay


def due_queue(experiment: str) -> str:
    """The name of an experiment's queue of predictions whose label is not final."""
    return f"due:{experiment}"


def forget_queue(due: str) -> str:
    """The name of the queue that follows the due queue `due`."""
    return "forget:" + due.removeprefix(due_queue(""))


def final_queues(spec: Spec) -> list[Queue]:
    """The queues of an experiment in which each prediction waits for a label."""
    name, grace = spec.experiment.name, spec.grace
    due = due_queue(name)
    marks = [
        Queue(f"mark:{at}:{name}", at + grace, None, spec, awaits_labels=True, landmark=at)
        for at in spec.landmarks
    ]
    follows = tuple(mark.name for mark in marks)
    last = Queue(due, spec.wait, forget_queue(due), spec, awaits_labels=True, follows=follows)
    return [*marks, last]


def queues_of(specs: Iterable[Spec], early_for: int) -> list[Queue]:
    """All queues of a shard."""
    queues = [Queue(EXPIRE, early_for)]
    for spec in specs:
        queues += final_queues(spec)
        forget = forget_queue(due_queue(spec.experiment.name))
        queues.append(Queue(forget, spec.remembered, None, spec))
    return queues


class Heads:
    """The first chunks of each queue, kept between commits: a written chunk never changes."""

    def __init__(self, queues: Iterable[Queue]) -> None:
        self.queues = list(queues)
        self._chunks: dict[str, list[Chunk]] = {}
        self._whole: dict[str, bool] = {}

    def forget_all(self) -> None:
        """Drop what is known, after somebody else has committed."""
        self._chunks.clear()

    def missing(self) -> list[Queue]:
        """The queues whose head is not known."""
        return [queue for queue in self.queues if queue.name not in self._chunks]

    def reads(self, keys: Keys) -> list[Command]:
        """The commands that read the missing heads."""
        return [("LRANGE", keys.key(queue.name), 0, HEAD_CHUNKS - 1) for queue in self.missing()]

    def learn(self, replies: Iterable[list[bytes]]) -> None:
        """Take in the answers to `reads`."""
        for queue, chunks in zip(self.missing(), replies, strict=True):
            self._chunks[queue.name] = [Chunk.unpack(chunk) for chunk in chunks]
            self._whole[queue.name] = len(chunks) < HEAD_CHUNKS

    def harvest(
        self, queue: Queue, meta: Meta, told: int | None, before: Mapping[str, Harvest]
    ) -> Harvest | None:
        """What is due in `queue`, None while nothing can be.

        `told`: as in `Queue.limit`; `before`: what this commit takes from the queues before this one.
        """
        limit = queue.limit(meta.watermark, told)
        if limit is None:
            return None
        limit = min([limit, *(before[name].through for name in queue.follows)])
        cursor = meta.cursors.get(queue.name, 0)
        return harvest(self._chunks[queue.name], cursor, limit, whole_queue=self._whole[queue.name])

    def committed(self, taken: dict[str, Harvest], appended: Iterable[str]) -> None:
        """Adjust what is known to a commit that took `taken` and appended chunks to queues."""
        grown = set(appended)
        for queue in self.queues:
            harvested = taken.get(queue.name)
            if harvested is not None and harvested.finished:
                del self._chunks[queue.name][: harvested.finished]
        for name, chunks in list(self._chunks.items()):
            self._whole[name] = self._whole[name] and name not in grown
            if not chunks and not self._whole[name]:
                del self._chunks[name]
