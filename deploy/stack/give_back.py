"""Gives the demo's treatment its traffic back, from within the container of the load; `deploy/stack.sh again` runs it. This script does I/O (HTTP).

python give_back.py URL SECRET_FILE EXPERIMENT TREATMENT
"""

import json
import sys
import urllib.error
import urllib.request
from pathlib import Path


def main(url: str, secret_file: str, experiment: str, treatment: str) -> int:
    """Ask the router at `url`; say what the split is now, or why not. Gives the exit status."""
    secret = Path(secret_file).read_text("utf-8").strip()
    wanted = urllib.request.Request(  # noqa: S310  # as the caller says
        url,
        data=json.dumps({"experiment": experiment, "treatment": treatment}).encode(),
        headers={"Authorization": f"Bearer {secret}"},
    )
    try:
        with urllib.request.urlopen(wanted, timeout=10) as answer:  # noqa: S310
            print(answer.read().decode())
    except urllib.error.HTTPError as error:
        print(f"{url}: answered {error.code}: {error.read(500).decode()}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{url}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
