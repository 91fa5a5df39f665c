"""How often somebody may ask: token buckets, of which a bounded number is remembered. Pure."""

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass


MOST_REMEMBERED = 10_000
"""Buckets; whoever did not ask for longest is forgotten, and starts with a full one."""
IPV6_NETWORK = 64
"""Bits of an IPv6 address that tell networks apart: one machine has all addresses of its network."""


@dataclass(slots=True)
class _Bucket:
    filled: float
    at: float


class Limits:
    """Lets everybody ask `per_minute` times a minute, and as many at once."""

    def __init__(self, per_minute: int) -> None:
        self._size, self._per_second = float(per_minute), per_minute / 60
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def wait(self, who: str, now: float) -> float | None:
        """Take note that `who` asks at `now` (seconds); None where they may, else seconds to wait.

        Who has to wait and asks all the same does not have to wait longer.
        """
        bucket = self._buckets.get(who)
        if bucket is None:
            bucket = self._buckets[who] = _Bucket(self._size, now)
            if len(self._buckets) > MOST_REMEMBERED:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(who)
        gone = max(0.0, now - bucket.at)
        bucket.filled, bucket.at = min(self._size, bucket.filled + gone * self._per_second), now
        if bucket.filled < 1:
            return (1 - bucket.filled) / self._per_second
        bucket.filled -= 1
        return None


def network(address: str | None) -> str:
    """The part of a remote address that tells askers apart; "" where there is none, as for a socket file.

    >>> network("192.0.2.7"), network("2001:db8::1:2:3:4")
    ('192.0.2.7', '2001:db8::/64')
    """
    try:
        found = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return address or ""
    if found.version == 4:
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, IPV6_NETWORK), strict=False))
