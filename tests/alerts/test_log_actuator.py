"""Orders as log lines."""

import json
import logging

import msgspec
import numpy as np
import pytest

from alerts.actuators.log import LOGGER, Log, order_json
from alerts.order import Order, Verification


ORDER = Order(
    id="order-1",
    experiment="offers",
    treatment="ranker-v2",
    control="rules-v1",
    decided_at=1_700_000_000_123,
    reasons=("rap:sequential fails",),
    evidence={"lower": -0.2},
)


async def test_an_order_is_one_line_of_json_behind_a_label(
    caplog: pytest.LogCaptureFixture,
) -> None:
    receipt = await Log().apply(ORDER)
    assert receipt.accepted
    [record] = caplog.records
    assert (record.name, record.levelno) == (LOGGER, logging.WARNING)
    label, _, document = record.getMessage().partition(" ")
    assert label == "order"
    assert json.loads(document)["evidence"] == {"lower": -0.2}
    assert msgspec.json.decode(document, type=Order) == ORDER


async def test_line_ends_in_reasons_cannot_forge_a_second_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    await Log().apply(msgspec.structs.replace(ORDER, reasons=("a\nb\r%s{}",)))
    assert len(caplog.records[0].getMessage().splitlines()) == 1


async def test_handlers_find_the_fields_of_an_order(caplog: pytest.LogCaptureFixture) -> None:
    await Log().apply(ORDER)
    fields = vars(caplog.records[0])
    assert fields["order_id"] == "order-1"
    assert (fields["experiment"], fields["treatment"]) == ("offers", "ranker-v2")
    assert fields["dry_run"] is False


async def test_a_dry_run_says_so_first(caplog: pytest.LogCaptureFixture) -> None:
    await Log().apply(msgspec.structs.replace(ORDER, dry_run=True))
    assert caplog.records[0].getMessage().startswith("dry run of an order {")


async def test_a_logger_that_drops_warnings_has_not_accepted_the_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logger = logging.getLogger("tests.quiet")
    monkeypatch.setattr(logger, "disabled", True)
    receipt = await Log(logger).apply(ORDER)
    assert not receipt.accepted
    assert receipt.retry
    assert "quiet" in receipt.detail


async def test_a_handler_that_raises_is_a_receipt(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError(f"disk full at {record.name}")

    logger = logging.getLogger("tests.broken")
    monkeypatch.setattr(logger, "handlers", [Broken()])
    receipt = await Log(logger).apply(ORDER)
    assert (receipt.accepted, receipt.retry) == (False, True)
    assert receipt.detail == "logging raised OSError"


async def test_there_is_nothing_to_read_back() -> None:
    assert await Log().verify(ORDER) is Verification.UNSUPPORTED


def test_evidence_that_is_no_plain_value_is_written_as_far_as_it_can_be() -> None:
    evidence: dict[str, object] = {
        "float": np.float64(1.5),
        "int": np.int64(3),
        "array": np.array([1, 2]),
        "infinite": float("inf"),
        "state": Verification.DONE,
        "error": ValueError("why"),
    }
    written = json.loads(order_json(msgspec.structs.replace(ORDER, evidence=evidence)))
    assert written["evidence"] == {
        "float": 1.5,
        "int": 3,
        "array": [1, 2],
        "infinite": None,
        "state": "done",
        "error": "why",
    }


def test_evidence_that_cannot_be_written_does_not_stop_an_order() -> None:
    endless: list[object] = []
    endless.append(endless)
    written = json.loads(order_json(msgspec.structs.replace(ORDER, evidence={"x": endless})))
    assert written["evidence"] == {"not_serialisable": "RecursionError"}
    assert written["id"] == "order-1"
