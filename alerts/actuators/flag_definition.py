"""A flag of flagd that deals customers to variants, and remembers which treatments were rolled back. Pure.

The flag is a string flag as https://flagd.dev/reference/flag-definitions describes: a variant's value is its
name, and the operation `fractional` deals by a hash of the flag's key and the customer's `targetingKey`. A
customer stays with a variant as long as the stretch of hashes that it lies in does; so

- each treatment has a place of its own, in which the control gets what the treatment does not;
- a treatment that is off leaves its place to the control, and nothing else moves.

Our memory stands in the flag's `metadata` (flagd allows plain values there only), which clients see as well:
`abmonitor` is the experiment, `abmonitor.<treatment>.off`, `.epoch` and `.at` tell which decision switched a
treatment off, in which of its lives, and when (epoch ms).
"""

import math
from collections.abc import Iterable, Mapping
from fractions import Fraction
from itertools import groupby
from operator import itemgetter
from typing import Any

import msgspec


OWNER = "abmonitor"
_OFF, _EPOCH, _AT, _REHEARSED = "off", "epoch", "at", "would_roll_back"

FINEST = 1_000_000
"""Weights that are no ratio of integers up to this sum are rounded to one of that sum."""

Flag = dict[str, Any]
"""A flag as flagd reads it, without its key."""

Bucket = tuple[str, int]
"""A variant and its weight, as a list of `fractional` has them."""


class ForeignFlagError(ValueError):
    """The flag belongs to somebody else."""


class Off(msgspec.Struct, frozen=True):
    """Why a treatment gets no customers."""

    decision: str
    epoch: int
    """The life of the treatment that the decision was about: only a later one switches it on again."""
    at: int
    """Epoch ms."""


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What a flag is to show of one experiment."""

    experiment: str
    control: str
    split: dict[str, float]
    """The declared weights of all variants, those of treatments that are off, too."""
    off: dict[str, Off] = {}
    epochs: dict[str, int] = {}
    """By treatment; unknown ones count as older than anything remembered."""
    room: dict[str, float] = {}
    """By treatment, the largest share (of 1) that is planned for it; its place is kept free for that."""
    flag: str = ""
    """The flag's key; empty for the experiment's name."""

    @property
    def key(self) -> str:
        """The flag's key."""
        return self.flag or self.experiment


def shared(split: Mapping[str, float]) -> dict[str, Fraction]:
    """The weights as exact shares of 1, read as they are written: 0.1 is a tenth; all 0 where none is above.

    Raises ValueError for a weight that is negative or not finite.

    >>> shared({"a": 0.995, "b": 0.005})["b"]
    Fraction(1, 200)
    """
    for name, weight in split.items():
        if not math.isfinite(weight) or weight < 0:
            raise ValueError(f"weight of {name}: expected a number of 0 or more, got {weight}")
    exact = {name: Fraction(repr(weight)) for name, weight in split.items()}
    whole = sum(exact.values()) or Fraction(1)
    return {name: weight / whole for name, weight in exact.items()}


def whole_numbers(shares: Iterable[Fraction]) -> list[int]:
    """Integers in the ratio of `shares`, which sum to 1; no positive share becomes 0.

    Exact where a sum of at most `FINEST` allows it; otherwise by largest remainders of that sum.

    >>> whole_numbers([Fraction(1, 200), Fraction(199, 200)])
    [1, 199]
    """
    shares = list(shares)
    common = math.lcm(*(share.denominator for share in shares))
    if common <= FINEST:
        return [int(share * common) for share in shares]
    found = [max(math.floor(share * FINEST), int(share > 0)) for share in shares]
    short = FINEST - sum(found)
    if short < 0:  # parts were raised to 1: it matters least where there is most
        found[found.index(max(found))] += short
        return found
    cut = [share * FINEST - part for share, part in zip(shares, found, strict=True)]
    for index in sorted(range(len(found)), key=cut.__getitem__, reverse=True)[:short]:
        found[index] += 1
    return found


def buckets(shown: Shown) -> tuple[Bucket, ...]:
    """How customers are dealt, along the hash: each treatment's place, then what is the control's alone.

    Raises ValueError for weights that are none, and for a control without any.
    """
    if shown.control not in shown.split:
        raise ValueError(f"control {shown.control!r} is not in the split {sorted(shown.split)}")
    shares = shared(shown.split)
    # By name: listing the same variants in another order moves nobody.
    treatments = sorted(name for name in shares if name != shown.control)
    room = {name: max(shares[name], _exact(shown.room.get(name, 0.0))) for name in treatments}
    if sum(room.values()) > 1:  # places that large do not fit beside each other
        room = {name: shares[name] for name in treatments}
    places: list[tuple[str, Fraction]] = []
    for name in treatments:
        dealt = shown.control if name in shown.off else name
        places += [(dealt, shares[name]), (shown.control, room[name] - shares[name])]
    places.append((shown.control, 1 - sum(room.values(), Fraction())))
    numbers = whole_numbers(share for _, share in places)
    return joined(zip(map(itemgetter(0), places), numbers, strict=True))


def _exact(share: float) -> Fraction:
    return Fraction(repr(share)) if math.isfinite(share) and share > 0 else Fraction(0)


def joined(dealt: Iterable[Bucket]) -> tuple[Bucket, ...]:
    """The buckets without empty ones, neighbours of one variant put together: nobody moves by that."""
    some = [bucket for bucket in dealt if bucket[1] > 0]
    return tuple((name, sum(w for _, w in run)) for name, run in groupby(some, key=itemgetter(0)))


def written(shown: Shown, before: Flag | None = None) -> tuple[Flag, tuple[str, ...]]:
    """The flag to write, and the treatments that stay off only because the flag remembers that.

    What `before` remembers wins over `shown` unless a treatment has begun a later epoch since.
    Raises ForeignFlagError, and ValueError as `buckets` does.
    """
    check_owner(shown.experiment, shown.key, before)
    kept = {
        treatment: off
        for treatment, off in remembered(before).items()
        if _outlasts(off, shown.off.get(treatment), shown.epochs.get(treatment, 0))
    }
    off = {**shown.off, **kept}
    dealt = buckets(msgspec.structs.replace(shown, off=off))
    variants = [shown.control, *sorted(name for name in shown.split if name != shown.control)]
    flag = _flag(shown.experiment, shown.control, variants, dealt, off, before)
    return flag, tuple(name for name in kept if name not in shown.off)


def _outlasts(memory: Off, known: Off | None, epoch: int) -> bool:
    """Whether what the flag remembers of a treatment is newer than what the monitor knows."""
    return memory.epoch >= epoch if known is None else memory.epoch > known.epoch


def switched_off(
    before: Flag | None, shown: Shown, treatment: str, off: Off, *, rehearsal: bool = False
) -> Flag:
    """The flag without customers for one treatment, whose place goes to the control; nobody else moves.

    Of `shown`, the split is that after the rollback; it only matters where there is no flag of ours yet,
    or somebody has changed how it deals: everybody goes to the control then, if the split is empty.
    A `rehearsal` deals as before and leaves a note; it needs a flag. Raises ForeignFlagError, and
    ValueError as `buckets` does.
    """
    check_owner(shown.experiment, shown.key, before)
    control, memory = shown.control, remembered(before)
    if rehearsal:
        if before is None:
            raise ValueError(f"there is no flag {shown.key!r} yet")
        note = {_key(treatment, _REHEARSED): off.decision}
        return {**before, "metadata": {**_metadata(before), **note}}
    known = memory.get(treatment)
    if known is not None and known.epoch > off.epoch:
        off = known  # an old order that comes again must not make it easier to switch on
    memory = {**memory, treatment: off}
    dealt = dealing(before)
    if dealt is None:
        split = {control: 1.0, treatment: 0.0} if not shown.split else shown.split
        whole = msgspec.structs.replace(shown, split=split, off=memory)
        dealt = buckets(whole)
        variants = [control, *sorted(name for name in split if name != control)]
    else:
        dealt = joined((control if name == treatment else name, w) for name, w in dealt)
        variants = list((before or {}).get("variants", ()))
    variants = list(dict.fromkeys([control, *variants]))
    return _flag(shown.experiment, control, variants, dealt, memory, before)


def _flag(
    experiment: str,
    control: str,
    variants: Iterable[str],
    dealt: tuple[Bucket, ...],
    off: Mapping[str, Off],
    before: Flag | None,
) -> Flag:
    flag: Flag = {
        "state": "ENABLED",  # a disabled flag serves what the code has as default, not the control
        "variants": {name: name for name in variants},
        "defaultVariant": control,
    }
    if {name for name, _ in dealt} - {control}:
        flag["targeting"] = {"fractional": [list(bucket) for bucket in dealt]}
    metadata: dict[str, object] = {OWNER: experiment}
    for name, value in _metadata(before).items():
        if name != OWNER and not name.startswith(f"{OWNER}."):
            metadata[name] = value  # people's own
        elif name.endswith(f".{_REHEARSED}") and _treatment(name) not in off:
            metadata[name] = value
    for name, why in off.items():
        facts = {_OFF: why.decision, _EPOCH: why.epoch, _AT: why.at}
        metadata.update({_key(name, what): fact for what, fact in facts.items()})
    flag["metadata"] = metadata
    return flag


def _key(treatment: str, what: str) -> str:
    return f"{OWNER}.{treatment}.{what}"


def _treatment(key: str) -> str:
    return key.removeprefix(f"{OWNER}.").rpartition(".")[0]


def _metadata(flag: Flag | None) -> dict[str, Any]:
    found = (flag or {}).get("metadata")
    return found if isinstance(found, dict) else {}


def check_owner(experiment: str, key: str, flag: Flag | None) -> None:
    """Raise ForeignFlagError unless the flag is the experiment's, or there is none."""
    if flag is None:
        return
    owner = _metadata(flag).get(OWNER)
    if owner == experiment:
        return
    whose = f"is that of experiment {owner!r}" if owner else "is somebody else's"
    raise ForeignFlagError(
        f"flag {key!r} {whose}: set on_breach.flagd.flag to another key, or, to hand it over, give the"
        f' flag "metadata": {{"{OWNER}": "{experiment}"}}'
    )


def remembered(flag: Flag | None) -> dict[str, Off]:
    """Which treatments the flag has been told to keep off, and why; by treatment."""
    metadata, found = _metadata(flag), {}
    for key, decision in metadata.items():
        if not key.startswith(f"{OWNER}.") or not key.endswith(f".{_OFF}"):
            continue
        name = _treatment(key)
        epoch, at = metadata.get(_key(name, _EPOCH)), metadata.get(_key(name, _AT))
        # A note that somebody has spoilt still says that it is off.
        found[name] = Off(
            str(decision), epoch if isinstance(epoch, int) else 1, at if isinstance(at, int) else 0
        )
    return found


def forgotten(flag: Flag, treatment: str) -> Flag:
    """The flag without the memory that a treatment is off; how it deals stays until it is shown anew."""
    gone = {_key(treatment, what) for what in (_OFF, _EPOCH, _AT, _REHEARSED)}
    metadata = {key: value for key, value in _metadata(flag).items() if key not in gone}
    return {**flag, "metadata": metadata}


def dealing(flag: Flag | None) -> tuple[Bucket, ...] | None:
    """How the flag deals customers; None where it does not in the way that we write."""
    if flag is None or flag.get("state") != "ENABLED":
        return None
    default, variants, rule = (flag.get(k) for k in ("defaultVariant", "variants", "targeting"))
    if not isinstance(default, str) or not isinstance(variants, dict) or default not in variants:
        return None
    if rule is None or rule == {}:
        return ((default, 1),)
    listed = rule.get("fractional") if isinstance(rule, dict) and len(rule) == 1 else None
    if not isinstance(listed, list) or not all(map(_is_bucket, listed)):
        return None
    dealt = joined((name, weight) for name, weight in listed)
    return dealt if dealt and {name for name, _ in dealt} <= variants.keys() else None


def _is_bucket(item: object) -> bool:
    if not isinstance(item, list) or len(item) != 2:
        return False
    name, weight = item
    return isinstance(name, str) and type(weight) is int and weight >= 0


def keeps_off(flag: Flag | None, experiment: str, treatment: str) -> bool:
    """Whether the flag is the experiment's, gives nobody to `treatment`, and remembers that."""
    dealt = dealing(flag)
    if flag is None or dealt is None or _metadata(flag).get(OWNER) != experiment:
        return False
    values = {flag["variants"][name] for name, _ in dealt} | {
        flag["variants"][flag["defaultVariant"]]
    }
    return treatment not in values and treatment in remembered(flag)
