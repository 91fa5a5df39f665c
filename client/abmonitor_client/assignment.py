"""Which variant a unit gets: the same one everywhere and always, without anything to store. Pure."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

from abmonitor_client.fields import identifier, name, number


if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID


_STEPS = 1 << 52  # so that the middle of every step is a float of its own


def assign(
    unit_id: str | int | UUID, experiment: str, split: Mapping[str, float], *, salt: str = ""
) -> str:
    """The variant of `split` (variant → share, any positive scale) that `unit_id` gets.

    Weighted rendezvous hashing: each variant draws `u` in (0, 1) from SHA-256 of
    `experiment:variant:salt:unit_id` and the smallest `-ln(u) / share` wins, which happens with
    probability share / total. Changing one share moves units only to or from that variant, and no more
    than it must; the order of `split` does not matter; draws of different experiments are independent.
    Another `salt` deals anew. Raises ValueError (TypeError) for names, ids and shares that are none.

    >>> assign("customer-1", "offer-recommender", {"rules-v1": 0.5, "ranker-v2": 0.5})
    'rules-v1'
    """
    unit = identifier("unit_id", unit_id)
    name("experiment", experiment)
    if salt:
        name("salt", salt)
    best, least = "", math.inf
    for variant, share in split.items():
        if number(f"share of variant {variant!r}", share, 0) > 0:
            drawn = _draw(f"{experiment}:{name('variant', variant)}:{salt}:{unit}")
            score = -math.log(drawn) / share
            if (score, variant) < (least, best) or not best:
                best, least = variant, score
    if not best:
        raise ValueError(
            f"split is {dict(split)!r}, expected at least one variant with a share > 0"
        )
    return best


def _draw(text: str) -> float:
    """A number in (0, 1) that is uniform over texts: the first 52 bits of the hash, at the middle."""
    head = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return ((head >> 12) + 0.5) / _STEPS
