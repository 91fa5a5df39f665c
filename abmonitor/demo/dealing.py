"""Dealing: which variant a customer of the demo gets, by the router's own hash. Pure."""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol


class Dealing(Protocol):
    """Deals customers to variants; the same customer always belongs to the same one."""

    def belongs(self, customer: int) -> str:
        """The variant that a customer belongs to, whatever was rolled back since."""
        ...

    def deal(self, customer: int) -> str:
        """The variant that a customer gets now."""
        ...

    def stop(self) -> None:
        """Obey an order that came to the router: from now on everybody gets the control."""
        ...


@dataclass(slots=True)
class ByHash:
    """Half and half, until an order comes."""

    control: str
    treatment: str
    seed: int
    stopped: bool = False

    def belongs(self, customer: int) -> str:
        """By hash: the same whenever it is asked."""
        digest = blake2b(f"{self.seed}:{customer}".encode(), digest_size=8).digest()
        return self.treatment if digest[0] & 1 else self.control

    def deal(self, customer: int) -> str:
        """The variant that a customer gets now."""
        return self.control if self.stopped else self.belongs(customer)

    def stop(self) -> None:
        """From now on everybody gets the control."""
        self.stopped = True
