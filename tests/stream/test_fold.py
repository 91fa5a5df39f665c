import math
from collections.abc import Sequence
from random import Random
from typing import NamedTuple, get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.confusion import Cells
from metrics.experiment import Money
from metrics.latency import CAP_MS, FINEST_MS, GROWTH
from metrics.layout import FINE_WIDTH
from metrics.ledger import SCORE_BINS, Ledger
from metrics.moments import LATENCY_CAP
from metrics.units import COLUMNS, UNIT_BUCKETS
from stream.fold import (
    MAX_ROWS,
    MONEY_CAP,
    Ledgers,
    Sightings,
    Slice,
    fold_arrivals,
    fold_labels,
    fold_mature,
)
from stream.rows import (
    ACTED,
    ACTUAL,
    ERROR,
    FLAG_SHIFT,
    LABELLED,
    NEVER,
    PREDICTED,
    ROW_STRUCT,
    TAIL_STRUCT,
    TIMED,
    Rows,
    unpack_rows,
)
from stream.screen import cents_of


class Fact(NamedTuple):
    """A row before it was packed, and what only its arrival pane keeps."""

    slot: int
    arrival: int
    flags: int
    latency: int
    weight: int
    seen_at: int = 0
    latency_ms: float = math.nan
    score: float = math.nan
    bucket: int | None = None
    """None: a row as experiments have it that need no more."""
    value: int = 0
    cost: int = 0

    @property
    def cents(self) -> int:
        return 0 if self.bucket is None else self.value - self.cost

    @property
    def row(self) -> bytes:
        time_and_flags = 5 | self.flags << FLAG_SHIFT
        row = ROW_STRUCT.pack(self.arrival, time_and_flags, self.latency, self.weight, self.slot)
        if self.bucket is None:
            return row
        return row + TAIL_STRUCT.pack(self.value, self.cost, NEVER, self.bucket)


_timed = st.floats(0, 2e6) | st.sampled_from([0, FINEST_MS, 0.1, 1, 1e6])
facts = st.builds(
    Fact,
    slot=st.sampled_from([0, 7, 2**32 - 1]),
    arrival=st.integers(0, 60_000) | st.just(2**50),
    flags=st.integers(0, PREDICTED | ACTED | ERROR | LABELLED | ACTUAL | TIMED),
    latency=st.integers(0, LATENCY_CAP),
    weight=st.integers(1, 1_000_000),
    seen_at=st.integers(0, 60_000),
    latency_ms=st.just(math.nan) | _timed,
    score=st.just(math.nan) | st.floats(0, 1) | st.sampled_from([0, 0.05, 0.95, 1]),
    bucket=st.none() | st.integers(0, UNIT_BUCKETS - 1),
    value=st.integers(-200, 200) | st.sampled_from([-2 * 10**9, 2 * 10**9]),
    cost=st.integers(-200, 200) | st.sampled_from([-2 * 10**9, 2 * 10**9]),
)
many = st.lists(facts, max_size=30)


def rows_of(found: Sequence[Fact]) -> Rows:
    return unpack_rows([f.row for f in found])


def cell_of(flags: int) -> str:
    labelled, actual, predicted = flags & LABELLED, flags & ACTUAL, flags & PREDICTED
    if flags & ERROR:
        return "error_positive" if labelled and actual else "error_other"
    if not labelled:
        return f"missing_{'acted' if flags & ACTED else 'idle'}_{'yes' if predicted else 'no'}"
    if actual:
        return "tp" if predicted else "fn"
    return "fp" if predicted else "tn"


Plain = dict[str, object]


def count(found: Sequence[Fact], *, with_cells: bool) -> Plain:
    """The sums of one group, by plain loops."""
    timed = [f for f in found if f.flags & TIMED]
    plain: Plain = {
        "predictions": len(found),
        "errors": sum(1 for f in found if f.flags & ERROR),
        "acted": sum(1 for f in found if f.flags & ACTED),
        "moments": (
            len(timed),
            sum(f.latency for f in timed),
            sum(f.latency**2 for f in timed),
        ),
    }
    if with_cells:
        plain["cells"] = cells(found)
    return plain


def cells(found: Sequence[Fact]) -> dict[str, tuple[int, ...]]:
    made: dict[str, tuple[int, ...]] = {}
    for f in found:
        timed, latency = (1, f.latency) if f.flags & TIMED else (0, 0)
        added = (1, f.weight, f.weight**2, timed, latency)
        known = made.get(cell_of(f.flags), (0,) * 5)
        made[cell_of(f.flags)] = tuple(a + b for a, b in zip(known, added, strict=True))
    return made


def cells_in(ledger: Ledger) -> dict[str, tuple[int, ...]]:
    return {
        name: tuple(cell) for name, cell in zip(Cells._fields, ledger.cells, strict=True) if cell.n
    }


def plain_of(ledger: Ledger, *, with_cells: bool) -> Plain:
    plain: Plain = {
        "predictions": ledger.predictions,
        "errors": ledger.errors,
        "acted": ledger.acted,
        "moments": tuple(ledger.moments),
    }
    if with_cells:
        plain["cells"] = cells_in(ledger)
    return plain


def grouped(found: Sequence[Fact], time: str, width: int) -> dict[Slice, list[Fact]]:
    groups: dict[Slice, list[Fact]] = {}
    for f in found:
        at = getattr(f, time)
        groups.setdefault(Slice(f.slot, at // width * width), []).append(f)
    return groups


def folded_arrivals(found: Sequence[Fact]) -> Ledgers:
    latencies = np.array([f.latency_ms for f in found], dtype=np.float64)
    scores = np.array([f.score for f in found], dtype=np.float64)
    return fold_arrivals(rows_of(found), latencies, scores)


def merged(*parts: Ledgers) -> Ledgers:
    made: Ledgers = {}
    for part in parts:
        for where, ledger in part.items():
            made[where] = made[where].plus(ledger) if where in made else ledger
    return made


@given(many)
def test_arrivals_are_folded_as_plain_loops_do(found: list[Fact]) -> None:
    ledgers = folded_arrivals(found)
    groups = grouped(found, "arrival", FINE_WIDTH)
    assert ledgers.keys() == groups.keys()
    for where, group in groups.items():
        ledger = ledgers[where]
        assert plain_of(ledger, with_cells=False) == count(group, with_cells=False)
        assert not cells_in(ledger)
        assert buckets_in(ledger) == buckets(group)
        assert scores_in(ledger) == scores(group)


def buckets_in(ledger: Ledger) -> dict[int, int]:
    return {ledger.latency.start + n: int(c) for n, c in enumerate(ledger.latency.counts) if c}


def buckets(found: Sequence[Fact]) -> dict[int, int]:
    made: dict[int, int] = {}
    for f in found:
        if not math.isnan(f.latency_ms):
            clipped = min(max(f.latency_ms, FINEST_MS), CAP_MS)
            bucket = math.ceil(math.log(clipped / FINEST_MS) / math.log(GROWTH))
            made[bucket] = made.get(bucket, 0) + 1
    return made


def scores_in(ledger: Ledger) -> dict[int, int]:
    return {place: int(n) for place, n in enumerate(ledger.scores) if n}


def scores(found: Sequence[Fact]) -> dict[int, int]:
    made: dict[int, int] = {}
    for f in found:
        if not math.isnan(f.score):
            place = min(int(f.score * SCORE_BINS), SCORE_BINS - 1)
            made[place] = made.get(place, 0) + 1
    return made


@given(many)
def test_labels_are_folded_by_the_moment_at_which_they_were_seen(found: list[Fact]) -> None:
    seen_at = np.array([f.seen_at for f in found], dtype=np.int64)
    ledgers = fold_labels(rows_of(found), seen_at)
    groups = grouped(found, "seen_at", FINE_WIDTH)
    assert ledgers.keys() == groups.keys()
    for where, group in groups.items():
        assert cells_in(ledgers[where]) == cells(group)
        assert ledgers[where].predictions == 0


@given(found=many, width=st.sampled_from([1, 1_000, 600_000]), other=st.sampled_from([7, 60_000]))
def test_final_labels_are_folded_by_cohort(found: list[Fact], width: int, other: int) -> None:
    widths = {0: width, 7: other}  # the third slot's experiment is no longer configured
    ledgers = fold_mature(rows_of(found), widths)
    groups: dict[Slice, list[Fact]] = {}
    for slot, its in widths.items():
        groups |= grouped([f for f in found if f.slot == slot], "arrival", its)
    assert ledgers.keys() == groups.keys()
    for where, group in groups.items():
        assert plain_of(ledgers[where], with_cells=True) == count(group, with_cells=True)
        assert sum(cell.n for cell in ledgers[where].cells) == len(group)


@given(many, many, many)
def test_folding_together_is_folding_apart_and_adding_in_any_order(
    a: list[Fact], b: list[Fact], c: list[Fact]
) -> None:
    whole = folded_arrivals([*a, *b, *c])
    first, second, third = folded_arrivals(a), folded_arrivals(b), folded_arrivals(c)
    assert merged(merged(first, second), third) == whole
    assert merged(first, merged(second, third)) == whole
    assert merged(third, second, first) == whole
    widths = {0: 1_000, 7: 60_000}
    mature = [fold_mature(rows_of(part), widths) for part in (a, b, c)]
    assert merged(*mature) == merged(*mature[::-1]) == fold_mature(rows_of([*a, *b, *c]), widths)


def extras_of(found: Sequence[Fact], cap: int, *, by_unit: bool) -> tuple[object, ...]:
    """Money of one group and its sums by bucket, by plain loops."""
    buckets: dict[tuple[int, str], int] = {}
    earned = []
    for f in found:
        earned.append(max(-cap, min(f.cents, cap)))
        timed = bool(f.flags & TIMED)
        columns = {f"w_{cell_of(f.flags)}": f.weight, "n": 1, "failed": bool(f.flags & ERROR)}
        columns |= {"timed": timed, "latency": f.latency * timed, "money": earned[-1]}
        for name, amount in columns.items():
            where = (f.arrival % UNIT_BUCKETS if f.bucket is None else f.bucket), name
            buckets[where] = buckets.get(where, 0) + amount
    capped = sum(1 for f in found if cap and abs(f.cents) > cap)
    kept = {where: amount for where, amount in buckets.items() if amount and by_unit}
    return sum(earned), sum(e**2 for e in earned), capped, kept


def extras_in(ledger: Ledger) -> tuple[object, ...]:
    kept = {
        (bucket, name): int(ledger.buckets[bucket, at])
        for at, name in enumerate(COLUMNS)
        for bucket in ledger.buckets[:, at].nonzero()[0].tolist()
    }
    return ledger.money, ledger.money_squared, ledger.capped, kept


@given(found=many, capped=st.sets(st.sampled_from([0, 7])), by_unit=st.sets(st.just(7)))
def test_money_and_units_are_folded_as_plain_loops_do(
    found: list[Fact], capped: set[int], by_unit: set[int]
) -> None:
    widths, caps = {0: 1_000, 7: 60_000}, dict.fromkeys(capped, 100)
    ledgers = fold_mature(rows_of(found), widths, by_unit, caps)
    known = [f for f in found if f.slot in widths]
    for slot, width in widths.items():
        own = [f for f in known if f.slot == slot]
        for where, group in grouped(own, "arrival", width).items():
            expected = extras_of(group, caps.get(slot, 0), by_unit=slot in by_unit)
            assert extras_in(ledgers[where]) == expected
            assert plain_of(ledgers[where], with_cells=True) == count(group, with_cells=True)
            assert bool(ledgers[where].buckets.size) == (slot in by_unit)


@given(many, st.randoms(use_true_random=False))
def test_money_and_units_in_parts_add_up_to_the_whole(found: list[Fact], rnd: Random) -> None:
    widths, by_unit, caps = {0: 1_000, 7: 60_000}, {7}, {7: 100}
    shuffled = rnd.sample(found, len(found))
    at = rnd.randint(0, len(found))
    parts = (fold_mature(rows_of(p), widths, by_unit, caps) for p in (shuffled[:at], shuffled[at:]))
    assert merged(*parts) == fold_mature(rows_of(found), widths, by_unit, caps)


@given(many)
def test_sightings_are_added_up_by_pane(found: list[Fact]) -> None:
    marks = [(n % 2, n % 3 == 0, n % 5 == 0, n % 7 == 0) for n in range(len(found))]
    columns = np.array(marks, dtype=np.int64).reshape(-1, 4).T
    none = np.full(len(found), math.nan)
    ledgers = fold_arrivals(rows_of(found), none, none, Sightings(*columns))
    numbered = dict(enumerate(found))
    for where, ledger in ledgers.items():
        own = [
            marks[n]
            for n, f in numbered.items()
            if Slice(f.slot, f.arrival // FINE_WIDTH * FINE_WIDTH) == where
        ]
        sums = tuple(map(sum, zip(*own, strict=True)))
        assert (ledger.failing, ledger.units, ledger.crossed, ledger.unitless) == sums


@given(many)
def test_without_units_every_error_is_a_failure(found: list[Fact]) -> None:
    for ledger in folded_arrivals(found).values():
        assert ledger.failing == ledger.errors
        assert (ledger.units, ledger.crossed, ledger.unitless) == (0, 0, 0)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_fold_of_the_most_money_is_exact(sign: int) -> None:
    row = Fact(3, 1, TIMED, LATENCY_CAP, 1_000_000, bucket=5, value=sign * 2 * 10**9).row
    rows = unpack_rows([row] * MAX_ROWS)
    ((_, ledger),) = fold_mature(rows, {3: 60_000}, {3}, {3: MONEY_CAP}).items()
    assert ledger.money == sign * MAX_ROWS * MONEY_CAP
    assert ledger.money_squared == MAX_ROWS * MONEY_CAP**2 < 2**63
    assert ledger.capped == MAX_ROWS
    assert dict(zip(COLUMNS, ledger.buckets[5].tolist(), strict=True)) == dict.fromkeys(
        COLUMNS, 0
    ) | {
        "w_missing_idle_no": MAX_ROWS * 10**6,
        "n": MAX_ROWS,
        "timed": MAX_ROWS,
        "latency": MAX_ROWS * LATENCY_CAP,
        "money": sign * MAX_ROWS * MONEY_CAP,
    }


def test_no_cap_that_may_be_declared_is_too_high() -> None:
    (highest,) = (
        meta.le for meta in get_type_hints(Money, include_extras=True)["cap"].__metadata__
    )
    assert cents_of(highest) == MONEY_CAP


@pytest.mark.parametrize("flags", [TIMED, TIMED | LABELLED, TIMED | LABELLED | ACTUAL | PREDICTED])
def test_the_largest_fold_of_the_largest_values_is_exact(flags: int) -> None:
    packed = ROW_STRUCT.pack(1, flags << FLAG_SHIFT, LATENCY_CAP, 1_000_000, 3)
    rows = unpack_rows([packed] * MAX_ROWS)
    ((_, ledger),) = fold_mature(rows, {3: 60_000}).items()
    assert ledger.moments == (MAX_ROWS, MAX_ROWS * LATENCY_CAP, MAX_ROWS * LATENCY_CAP**2)
    assert cells_in(ledger) == {
        cell_of(flags): (
            MAX_ROWS,
            MAX_ROWS * 10**6,
            MAX_ROWS * 10**12,
            MAX_ROWS,
            MAX_ROWS * LATENCY_CAP,
        )
    }


def test_no_rows_fold_to_nothing() -> None:
    nothing = unpack_rows([])
    none = np.zeros(0)
    assert fold_arrivals(nothing, none, none) == {}
    assert fold_labels(nothing, none.astype(np.int64)) == {}
    assert fold_mature(nothing, {0: 1}) == {}


def test_rows_of_experiments_that_are_not_configured_fold_to_nothing() -> None:
    assert fold_mature(rows_of([Fact(9, 0, 0, 0, 1)]), {}) == {}
