"""`python -m abmonitor.healthcheck URL…`: whether somebody answers 200 at one of the addresses. This module does I/O (HTTP).

For containers, whose image has Python and no curl; it imports nothing of ours, so that it costs little.
"""

import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException


TIMEOUT_S = 3.0
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Past any proxy of the environment, which would ask itself for 127.0.0.1."""


def problem(urls: Sequence[str], timeout: float = TIMEOUT_S) -> str | None:
    """Why none of the addresses answers 200 within `timeout` seconds, None where one does."""
    said = []
    for url in urls:
        try:
            with _OPENER.open(url, timeout=timeout) as answer:
                if answer.status == 200:
                    return None
                said.append(f"{url}: answered {answer.status}")
        except urllib.error.HTTPError as error:
            said.append(f"{url}: answered {error.code}: {error.read(500).decode(errors='replace')}")
        except (OSError, ValueError, HTTPException) as error:
            said.append(f"{url}: {error}")
    return "; ".join(said) or "expected an address to ask, such as http://127.0.0.1:8000/healthz"


def main(urls: Sequence[str]) -> int:
    """Say what is wrong, if anything is; gives the exit status."""
    found = problem(urls)
    if found is not None:
        print(found, file=sys.stderr)  # noqa: T201  # this is a command
    return 0 if found is None else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
