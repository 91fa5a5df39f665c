"""What a report consists of, the same for HTML and for Markdown: sections of sentences, tables and charts."""

import msgspec

from abmonitor.report.case import Answer


class Text(msgspec.Struct, frozen=True, tag=True):
    """A paragraph."""

    text: str
    strong: bool = False


class Formula(msgspec.Struct, frozen=True, tag=True):
    """A formula with its numbers, one line each."""

    lines: tuple[str, ...]


class Cards(msgspec.Struct, frozen=True, tag=True):
    """Questions with their answers, side by side."""

    answers: tuple[tuple[str, Answer], ...]


class Table(msgspec.Struct, frozen=True, tag=True):
    """Rows of cells; the first column names the row."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: bool = False
    """Whether the cells are sentences, and not numbers."""

    @property
    def narrow(self) -> bool:
        """Whether it has room beside a chart on paper: so many characters side by side."""
        rows = (self.columns, *self.rows)
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return sum(widths) <= 45


class Chart(msgspec.Struct, frozen=True, tag=True):
    """A chart, where it can be drawn; the table of its numbers stands beside it."""

    name: str
    """Of the function of `charts.js` that draws it."""
    heading: str
    table: Table
    treatment: str | None = None


Block = Text | Formula | Cards | Table | Chart


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """A heading and what stands below it."""

    title: str
    blocks: tuple[Block, ...]
    begins_page: bool = False
    """Whether it begins a new page where it is printed."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A whole report."""

    title: str
    subtitle: str
    summary: tuple[Section, ...]
    appendix: tuple[Section, ...]
    version: str
    """Of the software that wrote it."""
