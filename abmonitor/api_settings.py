"""What the settings say about the HTTP API: who may act, who may read, and how often."""

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta, Struct


MOST_A_MINUTE = 100_000


class ApiSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may do what over HTTP."""

    tokens: Annotated[str, Meta(min_length=1)] | None = None
    """The file with the hashes of tokens; without it nobody may act. A relative path starts at the
    working directory."""
    open_reads: bool = True
    """Whether reading needs no token; acting always needs one."""
    rate_limit: Annotated[int, Meta(ge=1, le=MOST_A_MINUTE)] = 120
    """Requests a minute, each for reading and for acting, of a token, or of an address without one."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Fields, and why they do not go together with the others."""
        if not self.open_reads and self.tokens is None:
            yield (
                "open_reads",
                "open_reads: false without tokens lets nobody in; name a file with api.tokens",
            )
