"""Sending dead letters again: which can be used now, and which were sent already. Pure."""

import zlib
from base64 import b85decode, b85encode
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from stream.batch import DeadLetter
from stream.dead_letters import REDRIVEN
from stream.events import Event, Rejected, epoch_ms
from stream.screen import ScreenedPrediction, SpecTable, screen
from stream.sources import Decoder


TOO_OLD = "prediction_too_old"
IGNORED = "ignored"

MAX_TEXT = 3_900
"""Brokers take 4,096 bytes beside a committed offset unless they are told otherwise."""

MAX_UNPACKED = 8 << 20
"""More than `MAX_TEXT` can mean is not read: somebody else wrote it."""


class Dated(NamedTuple):
    """A letter, and when it was written (epoch ms)."""

    letter: DeadLetter
    at: int


class Judge:
    """Says whether letters can be used with the settings of today."""

    def __init__(self, decoder: Decoder, specs: SpecTable, *, oldest: int | None) -> None:
        """`oldest` (epoch ms): predictions that were rejected before are too old; None: none are."""
        self._decoder, self._specs, self._oldest = decoder, specs, oldest

    def reasons(self, letters: Sequence[Dated]) -> list[str | None]:
        """Why each letter cannot be used; None where it can."""
        found: list[str | None] = [None] * len(letters)
        for topic in {dated.letter.topic for dated in letters}:
            places = [n for n, dated in enumerate(letters) if dated.letter.topic == topic]
            told = self._of_topic(topic, [letters[place] for place in places])
            for place, reason in zip(places, told, strict=True):
                found[place] = reason
        return found

    def _of_topic(self, topic: str, letters: Sequence[Dated]) -> list[str | None]:
        values = [dated.letter.value for dated in letters]
        events = self._decoder.decode(topic, values, [dated.letter.headers for dated in letters])
        screening = screen(events, [dated.at for dated in letters], self._specs)
        reasons: list[str | None] = [None] * len(letters)
        for index, rejected in screening.rejected:
            reasons[index] = rejected.reason
        for index in screening.ignored:
            reasons[index] = IGNORED
        for usable in screening.usable:
            if isinstance(usable, ScreenedPrediction):
                event, at = events[usable.record], letters[usable.record].at
                if self._too_old(event, at):
                    reasons[usable.record] = TOO_OLD
        return reasons

    def _too_old(self, prediction: Event, at: int) -> bool:
        """Whether its outcome may have come and gone, so that it would be taken for missing."""
        time = None if isinstance(prediction, Rejected) else prediction.time
        when = at if time is None else min(at, epoch_ms(time))  # a letter may be one of a letter
        return self._oldest is not None and when < self._oldest


def headers_again(letter: DeadLetter, place: str) -> list[tuple[str, bytes]]:
    """The headers of a record that is sent again; `place` is where its letter stands."""
    original = [(name, value) for name, value in letter.headers.items() if name != REDRIVEN]
    return [*original, (REDRIVEN, place.encode())]


class Bookmark:
    """Which letters of one partition are done: all before `next` but those that were left behind.

    Left behind are letters that could not be used, or that nobody asked for. They are kept as ranges, in
    a text beside the committed offset. Where that text gets too long, the oldest are given up: sending a
    letter too seldom can be mended, sending it twice would count it twice once its id is forgotten.
    """

    def __init__(self, next_offset: int = 0, left: Sequence[tuple[int, int]] = ()) -> None:
        self.next = next_offset
        self._left = [(start, stop) for start, stop in left if start < stop]
        self.given_up = 0
        """Letters left behind that nothing but starting over will find."""

    @classmethod
    def parse(cls, next_offset: int, text: str) -> "Bookmark":
        """What `next` and `text` of a bookmark say; a text of somebody else says nothing."""
        left, at = [], 0
        try:
            unpacked = zlib.decompressobj().decompress(b85decode(text), MAX_UNPACKED).decode()
            for part in unpacked.split(","):
                gap, length = part.split("+")
                start = at + int(gap, 16)
                at = start + int(length, 16)
                left.append((start, at))
        except (ValueError, zlib.error):
            left = []
        return cls(next_offset, [(a, b) for a, b in left if 0 <= a < b <= next_offset])

    def text(self) -> str:
        """The ranges left behind; gives up the oldest of them where they are too many."""
        while len(text := b85encode(zlib.compress(self._parts().encode(), 9)).decode()) > MAX_TEXT:
            drop = max(len(self._left) // 20, 1)
            self.given_up += sum(stop - start for start, stop in self._left[:drop])
            self._left = self._left[drop:]
        return text if self._left else ""

    def _parts(self) -> str:
        """Each range as the gap before it and its length."""
        stops = [0, *(stop for _, stop in self._left)]
        pairs = zip(self._left, stops, strict=False)
        return ",".join(f"{start - at:x}+{stop - start:x}" for (start, stop), at in pairs)

    @property
    def first(self) -> int:
        """The first letter that is not done."""
        return self._left[0][0] if self._left else self.next

    def skip_to(self, offset: int) -> None:
        """Leave everything up to `offset` behind as it is."""
        if offset > self.next:
            self._leave(self.next, offset)
            self.next = offset

    def forget_before(self, offset: int) -> None:
        """The log begins here: nothing before can be read any more."""
        self._left = [(max(start, offset), stop) for start, stop in self._left if stop > offset]
        self.next = max(self.next, offset)

    def wants(self, offset: int) -> bool:
        """Whether a letter is not done."""
        return offset >= self.next or self._range_of(offset) is not None

    def note(self, offset: int, *, done: bool) -> None:
        """Say what became of a letter; each offset, in order, gaps in the log may be left out."""
        if offset >= self.next:
            self.next = offset + 1
            if not done:
                self._leave(offset, offset + 1)
        elif done and (place := self._range_of(offset)) is not None:
            start, stop = self._left[place]
            parts = [(start, offset), (offset + 1, stop)]
            self._left[place : place + 1] = [part for part in parts if part[0] < part[1]]

    def _leave(self, start: int, stop: int) -> None:
        if self._left and self._left[-1][1] == start:
            start = self._left.pop()[0]
        self._left.append((start, stop))

    def _range_of(self, offset: int) -> int | None:
        place = bisect_right(self._left, offset, key=lambda part: part[0]) - 1
        return place if place >= 0 and offset < self._left[place][1] else None
