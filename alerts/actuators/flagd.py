"""Touches files: rolls back by giving all of a treatment's customers to the control in a flag of flagd."""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from alerts.actuators.flag_definition import ForeignFlagError, Off, Shown
from alerts.actuators.flag_document import FlagFileError, UnreadableError
from alerts.actuators.flag_file import GRACE, FlagFile, Written
from alerts.order import Order, Receipt, Verification


Problem = tuple[str, str]
"""A field's name and what is wrong with it."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LONGEST_ID = 200
_LATEST = 2**53
"""Readers of JSON may hold numbers as floats: larger ones would change."""


class FlagdOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which flag deals the customers of an experiment."""

    path: str
    """The file of flag definitions that flagd, or providers in file mode, watch."""
    flag: str | None = None
    """The flag's key; without one, the experiment's name."""

    def problems(self) -> Iterator[Problem]:
        """Everything that is wrong with these options."""
        if not self.path or "\0" in self.path:
            yield "path", f"expected the path of a file, got {self.path!r}"
        elif not self.path.endswith(".json"):
            yield "path", f"expected a file named *.json (flagd goes by that), got {self.path!r}"
        elif Path(self.path).is_dir():
            yield "path", f"expected a file, {self.path} is a folder"
        if self.flag is not None and not _NAME.fullmatch(self.flag):
            yield (
                "flag",
                f"expected 1 to 64 letters, digits, dots, hyphens or underscores, got {self.flag!r}",
            )


class Flagd:
    """Switches treatments off in a flag file, and reads back whether they are.

    `show` keeps the flag's shares up to date between rollbacks. Raises ValueError for options that
    cannot work.
    """

    def __init__(self, file: FlagFile, options: FlagdOptions) -> None:
        if problems := list(options.problems()):
            raise ValueError("flagd: " + "; ".join(f"{name}: {text}" for name, text in problems))
        self._file, self._options = file, options
        self._closed = False

    @classmethod
    def at(cls, options: FlagdOptions) -> "Flagd":
        """One with a file of its own."""
        return cls(FlagFile(Path(options.path)), options)

    def __repr__(self) -> str:
        return f"Flagd({self._options.path})"

    async def show(self, shown: Shown) -> Written:
        """Let the flag deal as `shown` says; see `FlagFile.show`, which also says what is raised."""
        return await self._file.show(msgspec.structs.replace(shown, flag=self._options.flag or ""))

    async def off(self, experiment: str) -> dict[str, Off]:
        """By treatment, why the file keeps it off. Raises FlagFileError and ForeignFlagError."""
        return await self._file.off(experiment, self._options.flag or "")

    async def apply(self, order: Order) -> Receipt:
        """Switch the treatment off; a dry run writes the file, too, with a note and the same shares."""
        if self._closed:
            return Receipt(accepted=False, detail="the flag file is closed", retry=True)
        names = (order.experiment, order.treatment, order.control)
        if not all(map(_NAME.fullmatch, names)):
            return Receipt(accepted=False, detail=f"names that no settings allow: {names!r}"[:300])
        try:
            return await self._switch_off(order)
        except Exception as error:  # noqa: BLE001 - an actuator never raises, whatever files do
            return self._refused(error)

    def _refused(self, error: Exception) -> Receipt:
        told = isinstance(error, (ForeignFlagError, FlagFileError, ValueError))
        detail = f"{self._options.path}: {error if told else type(error).__name__}"
        # A flag of somebody else stays theirs until a person changes something; the rest may pass.
        return Receipt(
            accepted=False,
            detail=detail,
            retry=not isinstance(error, ForeignFlagError),
            retry_after=GRACE if isinstance(error, UnreadableError) else None,
        )

    async def _switch_off(self, order: Order) -> Receipt:
        decision = order.id.encode("ascii", "backslashreplace").decode()[:_LONGEST_ID]
        at = max(0, min(order.decided_at, _LATEST))
        shown = Shown(
            experiment=order.experiment,
            control=order.control,
            split=order.split,
            flag=self._options.flag or "",
        )
        off = Off(decision, order.epoch, at)
        done = await self._file.switch_off(shown, order.treatment, off, rehearsal=order.dry_run)
        what = "has it already" if not done.changed else "was written"
        if order.dry_run:
            what = f"{what}; a dry run moves nobody"
        return Receipt(accepted=True, detail=f"{self._options.path}: flag {shown.key} {what}")

    async def verify(self, order: Order) -> Verification:
        """Read the file back: done where the flag gives nobody to the treatment, pending if unreadable."""
        if order.dry_run:
            return Verification.UNSUPPORTED  # it has no effect to see
        try:
            gone = await self._file.keeps_off(
                order.experiment, order.treatment, self._options.flag or ""
            )
        except Exception:  # noqa: BLE001 - an actuator never raises, whatever files do
            return Verification.PENDING
        return Verification.DONE if gone else Verification.FAILED

    async def close(self) -> None:
        """Accept no more orders; the file stays as it is."""
        self._closed = True
