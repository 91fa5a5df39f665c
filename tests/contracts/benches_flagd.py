"""The bench of the flag file; see test_actuator_contract.py. This module does I/O (files)."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from alerts.actuators.flag_definition import Shown
from alerts.actuators.flagd import Flagd, FlagdOptions


class FlagdBench:
    """A flag that deals half of the customers to the treatment, before any order."""

    async def open(self) -> None:
        self._folder = TemporaryDirectory()
        self._path = Path(self._folder.name) / "flags.json"
        self.actuator = Flagd.at(FlagdOptions(path=str(self._path)))
        split = {"rules-v1": 0.5, "ranker-v2": 0.5}
        await self.actuator.show(Shown(experiment="offers", control="rules-v1", split=split))

    def effects(self) -> set[tuple[str, str, bool]]:
        """What a reader of the file sees: which treatments are off, or would be, by which orders."""
        flag = json.loads(self._path.read_bytes())["flags"]["offers"]
        served = {name for name, _ in flag.get("targeting", {}).get("fractional", ())}
        found = set()
        for key, value in flag["metadata"].items():
            treatment, _, what = key.removeprefix("abmonitor.").rpartition(".")
            if what == "off" and treatment not in served:
                found.add((value, treatment, False))
            elif what == "would_roll_back" and treatment in served:
                found.add((value, treatment, True))
        return found

    async def close(self) -> None:
        await self.actuator.close()
        self._folder.cleanup()
