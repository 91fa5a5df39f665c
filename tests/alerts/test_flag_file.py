"""Flag files: whole at every moment, everybody else's flags untouched, and a rollback that wins."""

import asyncio
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import support.flag_writer as writer_program

from alerts.actuators import flag_file
from alerts.actuators.flag_definition import ForeignFlagError, Off, Shown, dealing
from alerts.actuators.flag_document import FlagFileError, UnreadableError, parsed
from alerts.actuators.flag_file import GRACE, FlagFile


SPLIT = {"control": 0.5, "treatment": 0.5}
SHOWN = Shown(experiment="offers", control="control", split=SPLIT)
OFF = Off("offers:treatment:7:1", 1, 7_000)
PEOPLES = b"""{
  "$evaluators": {"staff": {"ends_with": [{"var": "email"}, "@us"]}},
  "flags": {"theirs": {"state":"DISABLED",
      "variants": {"on": 1.50e3, "off": 12345678901234567890, "\\u00e9": "\xc3\xa9"}, "defaultVariant": "on"}},
  "metadata": {"version": "7"}
}"""


@dataclass(slots=True)
class Watch:
    """A clock that is moved by hand."""

    now: float = 1_772_366_400.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def file(tmp_path: Path, watch: Watch) -> FlagFile:
    return FlagFile(tmp_path / "flags.json", watch, watch)


def flags_in(file: FlagFile) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.path.read_bytes())["flags"]
    return found


def switch_off(file: FlagFile) -> bool:
    return asyncio.run(file.switch_off(SHOWN, "treatment", OFF)).changed


def off_in(file: FlagFile) -> dict[str, Off]:
    return asyncio.run(file.off("offers"))


def left_over(file: FlagFile) -> set[str]:
    """What else is in the folder."""
    return {each.name for each in file.path.parent.iterdir()} - {"flags.json", ".flags.json.lock"}


# --- what is written, and when ---------------------------------------------------------------------


def test_a_file_is_made_that_others_can_read(file: FlagFile) -> None:
    assert file.show_now(SHOWN).changed
    whole = json.loads(file.path.read_bytes())
    assert whole["$schema"] == "https://flagd.dev/schema/v0/flags.json"
    assert dealing(whole["flags"]["offers"]) == (("treatment", 1), ("control", 1))
    assert file.path.stat().st_mode & 0o777 == 0o644
    assert not left_over(file)


def test_showing_the_same_again_does_not_write(file: FlagFile) -> None:
    file.show_now(SHOWN)
    before = file.path.stat()
    assert not file.show_now(SHOWN).changed
    assert not FlagFile(file.path).show_now(SHOWN).changed
    assert switch_off(file)
    assert not switch_off(file)
    again = Shown(experiment="offers", control="control", split=SPLIT, off={"treatment": OFF})
    assert not file.show_now(again).changed
    assert file.path.stat().st_ino != before.st_ino
    file.show_now(SHOWN)
    assert off_in(file) == {"treatment": OFF}


def test_what_somebody_does_to_our_flag_is_put_right(file: FlagFile) -> None:
    file.show_now(SHOWN)
    wanted = file.path.read_bytes()
    file.path.write_bytes(wanted.replace(b"ENABLED", b"DISABLED"))
    assert file.show_now(SHOWN).changed
    assert file.path.read_bytes() == wanted


def test_flags_of_others_stay_byte_for_byte(file: FlagFile) -> None:
    file.path.write_bytes(PEOPLES)
    theirs = parsed(PEOPLES)
    file.show_now(SHOWN)
    switch_off(file)
    after = parsed(file.path.read_bytes())
    assert set(after.flags) == {"theirs", "offers"}
    for one, other in ((theirs.flags, after.flags), (theirs.head, after.head)):
        for key, raw in one.items():
            assert _tight(bytes(other[key])) == _tight(bytes(raw))


def _tight(raw: bytes) -> bytes:
    return b"".join(raw.split())


def test_rights_and_links_stay_as_they_are(file: FlagFile, tmp_path: Path) -> None:
    behind = tmp_path / "mounted"
    behind.mkdir()
    (behind / "real.json").write_bytes(PEOPLES)
    (behind / "real.json").chmod(0o640)
    file.path.symlink_to(behind / "real.json")
    file.show_now(SHOWN)
    assert file.path.is_symlink()
    assert (behind / "real.json").stat().st_mode & 0o777 == 0o640
    assert "offers" in flags_in(file)


def test_each_version_is_newer_than_the_last_whatever_the_clock_says(file: FlagFile) -> None:
    file.show_now(SHOWN)
    ahead = file.path.stat().st_mtime_ns + 10**12
    os.utime(file.path, ns=(ahead, ahead))
    assert switch_off(file)
    assert os.path.getmtime(file.path) > ahead / 10**9  # noqa: PTH204  # as flagd's Python provider asks


def test_what_killed_writers_left_behind_is_removed(file: FlagFile, tmp_path: Path) -> None:
    file.show_now(SHOWN)
    fresh, other = tmp_path / ".flags.json.new.tmp", tmp_path / ".else.json.x.tmp"
    for left in (fresh, other):
        left.write_text("{")
    switch_off(file)
    assert left_over(file) == {fresh.name, other.name}
    flag_file._tidied(tmp_path, "flags.json", older_than=-1.0)
    assert left_over(file) == {other.name}


def test_a_flag_of_somebody_else_is_refused_and_kept(file: FlagFile) -> None:
    file.path.write_bytes(PEOPLES)
    theirs = Shown(experiment="offers", control="control", split=SPLIT, flag="theirs")
    for change in (
        lambda: file.show_now(theirs),
        lambda: asyncio.run(file.switch_off(theirs, "treatment", OFF)),
        lambda: asyncio.run(file.off("offers", "theirs")),
        lambda: asyncio.run(file.release("offers", "treatment", "theirs")),
    ):
        with pytest.raises(ForeignFlagError, match="somebody else"):
            change()
    assert file.path.read_bytes() == PEOPLES


# --- memory ----------------------------------------------------------------------------------------


def test_the_file_remembers_for_a_monitor_that_has_forgotten(file: FlagFile) -> None:
    file.show_now(SHOWN)
    switch_off(file)
    fresh = FlagFile(file.path)
    done = fresh.show_now(
        Shown(experiment="offers", control="control", split=SPLIT, epochs={"treatment": 1})
    )
    assert (done.changed, done.kept_off) == (False, ("treatment",))
    assert asyncio.run(fresh.off("offers")) == {"treatment": OFF}
    rearmed = Shown(experiment="offers", control="control", split=SPLIT, epochs={"treatment": 2})
    assert fresh.show_now(rearmed).changed
    assert off_in(fresh) == {}
    assert dealing(flags_in(fresh)["offers"]) == (("treatment", 1), ("control", 1))


def test_a_person_can_release_a_treatment(file: FlagFile) -> None:
    assert not asyncio.run(file.release("offers", "treatment"))
    switch_off(file)
    assert asyncio.run(file.release("offers", "treatment"))
    assert file.show_now(SHOWN).kept_off == ()
    assert not asyncio.run(file.keeps_off("offers", "treatment"))


def test_without_a_file_nothing_is_remembered_and_nothing_kept_off(file: FlagFile) -> None:
    assert off_in(file) == {}
    assert not asyncio.run(file.keeps_off("offers", "treatment"))


# --- files that are no flags -----------------------------------------------------------------------


BROKEN = [
    b'{"flags": {"theirs"',
    b"[]",
    b'{"flags": []}',
    b"\xff\xfe",
    b'{"flags": {"a": 01}}',
    b"flags: {}",
]


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_file_is_left_alone_until_a_rollback_needs_it(
    file: FlagFile, watch: Watch, broken: bytes
) -> None:
    file.path.write_bytes(PEOPLES)
    file.show_now(SHOWN)
    file.path.write_bytes(broken)
    for wait in (0.0, GRACE / 2):
        watch.now += wait
        with pytest.raises(UnreadableError, match="it is written anew"):
            switch_off(file)
    watch.now += GRACE
    with pytest.raises(UnreadableError, match="expected a JSON object"):
        file.show_now(SHOWN)
    with pytest.raises(UnreadableError):
        off_in(file)
    assert file.path.read_bytes() == broken
    assert not left_over(file)
    assert switch_off(file)
    assert off_in(file) == {"treatment": OFF}
    assert set(flags_in(file)) == {"theirs", "offers"}, "as it was last seen"
    (copy,) = left_over(file)
    assert copy == time.strftime("flags.json.broken-%Y%m%dT%H%M%SZ", time.gmtime(watch.now))
    assert (file.path.parent / copy).read_bytes() == broken


def test_a_file_that_is_mended_in_time_is_taken_as_it_is(file: FlagFile, watch: Watch) -> None:
    file.path.write_bytes(PEOPLES[:50])
    with pytest.raises(UnreadableError):
        switch_off(file)
    watch.now += GRACE - 0.1
    file.path.write_bytes(PEOPLES)
    assert switch_off(file)
    file.path.write_bytes(b"{")
    watch.now += 0.2
    with pytest.raises(UnreadableError, match=f"in {GRACE:.1f} s it is written anew"):
        switch_off(file)


def test_a_file_that_vanishes_comes_back_at_once_with_everybodys_flags(file: FlagFile) -> None:
    file.path.write_bytes(PEOPLES)
    file.show_now(SHOWN)
    file.path.unlink()
    assert file.show_now(SHOWN).changed
    assert set(flags_in(file)) == {"theirs", "offers"}
    file.path.unlink()
    assert switch_off(file)
    assert set(flags_in(file)) == {"theirs", "offers"}


@pytest.mark.parametrize("blank", [b"", b" \n"])
def test_a_file_that_stays_empty_is_filled_without_a_copy(
    file: FlagFile, watch: Watch, blank: bytes
) -> None:
    file.path.write_bytes(blank)
    with pytest.raises(UnreadableError):
        file.show_now(SHOWN)
    assert file.path.read_bytes() == blank
    watch.now += GRACE
    assert file.show_now(SHOWN).changed
    assert not left_over(file)


def test_a_folder_that_is_missing_or_closed_is_told_in_words(tmp_path: Path) -> None:
    file = FlagFile(tmp_path / "nowhere" / "flags.json")
    with pytest.raises(FlagFileError, match="its folder does not exist; make it"):
        file.show_now(SHOWN)
    with pytest.raises(FlagFileError, match="is a directory"):
        FlagFile(tmp_path).show_now(SHOWN)


# --- several writers -------------------------------------------------------------------------------


def test_writers_of_one_file_lose_nothing_of_each_other(tmp_path: Path) -> None:
    path, names = tmp_path / "flags.json", [f"experiment-{n}" for n in range(6)]

    def write(name: str) -> None:
        file = FlagFile(path)
        for share in range(1, 15):
            split = {"control": 1.0, "treatment": share / 10}
            file.show_now(Shown(experiment=name, control="control", split=split))

    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(write, names))
    flags = json.loads(path.read_bytes())["flags"]
    assert {name: dealing(flag) for name, flag in flags.items()} == dict.fromkeys(
        names, (("treatment", 7), ("control", 5))
    )


@pytest.fixture
def held(file: FlagFile) -> Iterator[None]:
    """Another writer has the lock, and does not go on."""
    with (file.path.parent / ".flags.json.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.mark.usefixtures("held")
def test_a_frozen_writer_keeps_nobody_from_rolling_back(
    file: FlagFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flag_file, "LOCK_PATIENCE", -1.0)
    with pytest.raises(FlagFileError, match="another writer has held its lock"):
        file.show_now(SHOWN)
    assert switch_off(file)


def test_whoever_reads_while_others_write_sees_whole_files(tmp_path: Path) -> None:
    path, done, seen = tmp_path / "flags.json", threading.Event(), set()
    FlagFile(path).show_now(SHOWN)

    def read() -> None:
        while not done.is_set():
            seen.add(dealing(json.loads(path.read_bytes())["flags"]["offers"]))

    with ThreadPoolExecutor(2) as pool:
        reading = pool.submit(read)
        for share in range(1, 200):
            split = {"control": 1.0, "treatment": share / 200}
            FlagFile(path).show_now(Shown(experiment="offers", control="control", split=split))
        done.set()
        reading.result()
    assert len(seen) > 1
    assert None not in seen


def test_a_writer_that_is_killed_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "flags.json"
    path.write_bytes(PEOPLES)
    for wanted in range(2, 12):
        command = [sys.executable, str(writer_program.__file__), str(path)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as running:
            assert running.stdout is not None
            assert running.stdout.readline() == b"writing\n"
            seen: set[object] = set()
            while len(seen) < wanted:  # it is killed at any moment of a change
                seen.add(dealing(parsed(path.read_bytes()).flag("offers")))
            running.kill()
        whole = parsed(path.read_bytes())
        seen.add(dealing(whole.flag("offers")))
        assert None not in seen
        assert whole.flag("theirs") == json.loads(PEOPLES)["flags"]["theirs"]
    assert switch_off(FlagFile(path)), "the lock of a killed writer is free"
