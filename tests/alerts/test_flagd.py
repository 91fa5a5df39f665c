"""The actuator of flag files: receipts, read-back, and what it refuses."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from alerts.actuators.flag_definition import Off, Shown
from alerts.actuators.flag_file import GRACE, FlagFile
from alerts.actuators.flagd import Flagd, FlagdOptions
from alerts.order import Order, Verification


ORDER = Order(
    id="offers:ranker-v2:1772366399250:3",
    experiment="offers",
    treatment="ranker-v2",
    control="rules-v1",
    decided_at=1_772_366_399_250,
    epoch=2,
    split={"rules-v1": 0.9, "ranker-v2": 0.0, "ranker-v3": 0.1},
)
SHOWN = Shown(
    experiment="offers",
    control="rules-v1",
    split={"rules-v1": 0.8, "ranker-v2": 0.1, "ranker-v3": 0.1},
)
WHY = Off(ORDER.id, 2, ORDER.decided_at)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "flags.json"


@pytest.fixture
def flagd(path: Path) -> Flagd:
    return Flagd.at(FlagdOptions(path=str(path)))


def put(path: Path, text: str) -> None:
    path.write_text(text)


def make(folder: Path) -> None:
    folder.mkdir()


def remove(path: Path) -> None:
    path.unlink()


def texts_in(path: Path) -> dict[str, str]:
    """What is in the folder of the file, by name."""
    found = {each.name: each.read_text() for each in path.parent.iterdir()}
    return {name: text for name, text in found.items() if not name.endswith(".lock")}


def flag_in(path: Path, key: str = "offers") -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(path.read_bytes())["flags"][key]
    return found


async def test_an_order_takes_the_treatment_out_of_the_flag_and_is_read_back(
    flagd: Flagd, path: Path
) -> None:
    await flagd.show(SHOWN)
    assert await flagd.verify(ORDER) is Verification.FAILED
    receipt = await flagd.apply(ORDER)
    assert (receipt.accepted, receipt.detail) == (True, f"{path}: flag offers was written")
    assert flag_in(path)["targeting"] == {
        "fractional": [["rules-v1", 1], ["ranker-v3", 1], ["rules-v1", 8]]
    }
    assert await flagd.verify(ORDER) is Verification.DONE
    assert await flagd.off("offers") == {"ranker-v2": WHY}
    again = await flagd.apply(ORDER)
    assert (again.accepted, again.detail) == (True, f"{path}: flag offers has it already")


async def test_an_order_comes_before_anything_was_shown(flagd: Flagd, path: Path) -> None:
    assert (await flagd.apply(ORDER)).accepted
    assert flag_in(path)["targeting"] == {"fractional": [["ranker-v3", 1], ["rules-v1", 9]]}
    assert await flagd.verify(ORDER) is Verification.DONE


async def test_without_a_known_split_everybody_gets_the_control(flagd: Flagd, path: Path) -> None:
    assert (await flagd.apply(msgspec.structs.replace(ORDER, split={}))).accepted
    assert "targeting" not in flag_in(path)
    assert flag_in(path)["defaultVariant"] == "rules-v1"


async def test_the_flag_may_have_another_key(path: Path) -> None:
    flagd = Flagd.at(FlagdOptions(path=str(path), flag="which-ranker"))
    await flagd.show(SHOWN)
    assert (await flagd.apply(ORDER)).accepted
    assert await flagd.verify(ORDER) is Verification.DONE
    assert await flagd.off("offers") == {"ranker-v2": WHY}
    assert flag_in(path, "which-ranker")["metadata"]["abmonitor"] == "offers"


async def test_a_dry_run_writes_a_note_and_has_no_effect_to_see(flagd: Flagd, path: Path) -> None:
    dry = msgspec.structs.replace(ORDER, dry_run=True)
    early = await flagd.apply(dry)
    assert (early.accepted, early.retry) == (False, True)
    assert early.detail.endswith("there is no flag 'offers' yet")
    await flagd.show(SHOWN)
    before = flag_in(path)["targeting"]
    receipt = await flagd.apply(dry)
    assert (receipt.accepted, receipt.detail) == (
        True,
        f"{path}: flag offers was written; a dry run moves nobody",
    )
    assert flag_in(path)["targeting"] == before
    assert flag_in(path)["metadata"]["abmonitor.ranker-v2.would_roll_back"] == ORDER.id
    assert await flagd.verify(dry) is Verification.UNSUPPORTED
    assert not (await flagd.show(SHOWN)).changed


async def test_a_flag_of_somebody_else_is_refused_for_good(flagd: Flagd, path: Path) -> None:
    theirs = '{"flags": {"offers": {"state": "ENABLED", "variants": {"ranker-v2": "ranker-v2"}}}}'
    put(path, theirs)
    receipt = await flagd.apply(ORDER)
    assert (receipt.accepted, receipt.retry) == (False, False)
    assert "flag 'offers' is somebody else's: set on_breach.flagd.flag" in receipt.detail
    assert await flagd.verify(ORDER) is Verification.FAILED
    assert texts_in(path) == {"flags.json": theirs}


async def test_a_broken_file_is_replaced_by_a_later_attempt(path: Path) -> None:
    now = 0.0
    flagd = Flagd(FlagFile(path, monotonic=lambda: now), FlagdOptions(path=str(path)))
    put(path, '{"flags": {')
    receipt = await flagd.apply(ORDER)
    assert (receipt.accepted, receipt.retry, receipt.retry_after) == (False, True, GRACE)
    assert f"in {GRACE:.1f} s it is written anew" in receipt.detail
    assert await flagd.verify(ORDER) is Verification.PENDING
    now = GRACE
    assert (await flagd.apply(ORDER)).accepted
    assert await flagd.verify(ORDER) is Verification.DONE
    copies = [text for name, text in texts_in(path).items() if ".broken-" in name]
    assert copies == ['{"flags": {']


async def test_a_folder_that_is_missing_is_tried_again(tmp_path: Path) -> None:
    flagd = Flagd.at(FlagdOptions(path=str(tmp_path / "shared" / "flags.json")))
    receipt = await flagd.apply(ORDER)
    assert (receipt.accepted, receipt.retry) == (False, True)
    assert receipt.detail.endswith("its folder does not exist; make it, and let flagd read it")
    make(tmp_path / "shared")
    assert (await flagd.apply(ORDER)).accepted


async def test_a_flag_that_was_taken_away_counts_as_failed(flagd: Flagd, path: Path) -> None:
    await flagd.apply(ORDER)
    put(path, '{"flags": {}}')
    assert await flagd.verify(ORDER) is Verification.FAILED
    remove(path)
    assert await flagd.verify(ORDER) is Verification.FAILED


async def test_after_closing_orders_are_not_accepted(flagd: Flagd, path: Path) -> None:
    await flagd.close()
    receipt = await flagd.apply(ORDER)
    assert (receipt.accepted, receipt.retry) == (False, True)
    assert texts_in(path) == {}


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"path": ""}, ("path", "expected the path of a file, got ''")),
        ({"path": "a\0.json"}, ("path", "expected the path of a file, got 'a\\x00.json'")),
        (
            {"path": "flags.yaml"},
            ("path", "expected a file named *.json (flagd goes by that), got 'flags.yaml'"),
        ),
        ({"path": "x.json", "flag": "a b"}, ("flag", "expected 1 to 64 letters")),
        ({"path": "x.json", "flag": ""}, ("flag", "expected 1 to 64 letters")),
    ],
)
def test_options_that_cannot_work_are_told(
    options: dict[str, str], problem: tuple[str, str]
) -> None:
    found = FlagdOptions(**options)
    ((field, text),) = found.problems()
    assert field == problem[0]
    assert text.startswith(problem[1])
    with pytest.raises(ValueError, match=f"flagd: {field}: "):
        Flagd.at(found)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    folder = tmp_path / "flags.json"
    folder.mkdir()
    ((field, text),) = FlagdOptions(path=str(folder)).problems()
    assert (field, text) == ("path", f"expected a file, {folder} is a folder")
