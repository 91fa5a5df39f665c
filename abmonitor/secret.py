"""Where addresses and secrets are found: the environment, or files (file system)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

from msgspec import Struct


class SecretError(Exception):
    """A secret or an address is not where the settings say; never contains its value."""


class Secret(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where an address or a secret is found: never in the settings, and read only when needed."""

    env: str | None = None
    file: str | None = None

    def __post_init__(self) -> None:
        if (self.env is None) == (self.file is None):
            raise ValueError("expected one of env and file")

    @classmethod
    def parse(cls, data: object) -> Self:
        """Read `{env: NAME}` or `{file: path}`; raises ValueError that does not repeat `data`."""
        if isinstance(data, dict) and len(data) == 1:
            ((source, name),) = data.items()
            if source in {"env", "file"} and isinstance(name, str) and name.isprintable() and name:
                return cls(**{source: name})
        raise ValueError(
            "expected {env: NAME} or {file: path}: "
            "addresses and secrets come from the environment or from files, never from settings"
        )

    @property
    def source(self) -> str:
        """Where it is found, in words."""
        return (
            f"the environment variable {self.env}" if self.file is None else f"the file {self.file}"
        )

    def resolve(self, environ: Mapping[str, str]) -> str:
        """Look the value up; a file is read again each time, so that it can be rotated.

        A relative path starts at the working directory; white space around a file's text is cut.
        Raises SecretError that names the variable or the file.
        """
        if self.file is None:
            value = environ.get(self.env or "", "")
        else:
            try:
                value = Path(self.file).read_text("utf-8").strip()
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or "it is not UTF-8 text"
                raise SecretError(f"cannot read {self.source}: {why}") from None
        if not value:
            raise SecretError(f"{self.source} is not set or empty")
        return value
