"""Changes a flag file as fast as it can, until it is killed: `python flag_writer.py FILE`. This module does I/O."""

import sys
from itertools import count
from pathlib import Path

from alerts.actuators.flag_definition import Shown
from alerts.actuators.flag_file import FlagFile


def main(path: Path) -> None:
    """Write one split after the other; says so once it has begun."""
    file = FlagFile(path)
    for number in count():
        split = {"control": 50.0 + number % 40, "treatment": 50.0 - number % 40}
        file.show_now(Shown(experiment="offers", control="control", split=split))
        if not number:
            print("writing", flush=True)  # noqa: T201  # who started it waits for this


if __name__ == "__main__":
    main(Path(sys.argv[1]))
