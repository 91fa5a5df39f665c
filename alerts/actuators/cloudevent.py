"""An order as a CloudEvents 1.0 document: what the webhook posts and what the Kafka topic holds."""

from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import msgspec

from alerts.actuators.log import order_json
from alerts.order import Order


CONTENT_TYPE = "application/cloudevents+json"
"""Of a document in structured mode (CloudEvents HTTP and Kafka protocol bindings, 3.2 each)."""

DRY_RUN_TYPE = "dev.abmonitor.dryrun.v1"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(milliseconds: int) -> str:
    """Write epoch milliseconds as RFC 3339; raises OverflowError beyond the year 9999.

    >>> moment(1_772_366_399_250)
    '2026-03-01T11:59:59.250Z'
    """
    decided = _EPOCH + timedelta(milliseconds=milliseconds)
    return decided.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def document(order: Order) -> bytes:
    """Write the order as a CloudEvents 1.0 document (JSON format); equal for every attempt.

    `dryrun` is an extension attribute. `time` is when the order was decided.
    """
    return msgspec.json.encode(
        {
            "specversion": "1.0",
            "id": order.id,
            "source": f"/abmonitor/{quote(order.experiment, safe='')}",
            "type": DRY_RUN_TYPE if order.dry_run else f"dev.abmonitor.{order.action}.v1",
            "time": moment(order.decided_at),
            "subject": order.treatment,
            "datacontenttype": "application/json",
            "dryrun": order.dry_run,
            "data": msgspec.Raw(order_json(order)),
        }
    )
