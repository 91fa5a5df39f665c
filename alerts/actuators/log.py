"""Orders as log lines: for a first trial, and for those who act on their logs."""

import logging

import msgspec

from alerts.order import Order, Receipt, Verification


LOGGER = "abmonitor.orders"


def _plain(value: object) -> object:
    """Turn evidence that is no plain value into one: numpy's into numbers, the rest into text."""
    tolist = getattr(value, "tolist", None)
    return tolist() if callable(tolist) else str(value)


_ENCODER = msgspec.json.Encoder(enc_hook=_plain)


def order_json(order: Order) -> bytes:
    """Write the order as one line of JSON; numbers that are not finite become null.

    Evidence that cannot be written at all is replaced by the reason: acting matters more than
    explaining.
    """
    try:
        return _ENCODER.encode(order)
    except Exception as error:  # noqa: BLE001 - evidence is any object, and can raise anything
        evidence: dict[str, object] = {"not_serialisable": type(error).__name__}
        return _ENCODER.encode(msgspec.structs.replace(order, evidence=evidence))


class Log:
    """Writes each order as one line to the logger `abmonitor.orders`: a label, then JSON.

    The record also carries `order_id`, `experiment`, `treatment` and `dry_run` for handlers that
    write fields. An order applied twice gives two lines with one `id`.
    """

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logger or logging.getLogger(LOGGER)

    async def apply(self, order: Order) -> Receipt:
        """Write the line; not accepted where the logger would drop it or a handler raises."""
        # Dry runs too: at INFO the usual set-up would drop the only thing they do.
        level = logging.WARNING
        if not self._logger.isEnabledFor(level):
            return Receipt(
                accepted=False, detail=f"logger {self._logger.name} drops warnings", retry=True
            )
        try:
            self._write(level, order)
        except Exception as error:  # noqa: BLE001 - an actuator never raises; handlers are anybody's
            name = type(error).__name__
            return Receipt(accepted=False, detail=f"logging raised {name}", retry=True)
        return Receipt(accepted=True, detail=f"written to logger {self._logger.name}")

    def _write(self, level: int, order: Order) -> None:
        self._logger.log(
            level,
            "%s %s",
            "dry run of an order" if order.dry_run else "order",
            order_json(order).decode(),
            extra={
                "order_id": order.id,
                "experiment": order.experiment,
                "treatment": order.treatment,
                "dry_run": order.dry_run,
            },
        )

    async def verify(self, order: Order) -> Verification:  # noqa: ARG002 - the protocol's argument
        """Answer that this is unsupported: a log line moves no traffic by itself."""
        return Verification.UNSUPPORTED

    async def close(self) -> None:
        """Nothing to release."""
