"""Writes a report as one HTML file that needs nothing else, or as Markdown. Reads the package's own files."""

import base64
import hashlib
import re
from importlib import resources
from typing import Any

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from abmonitor.report.content import Report


_ASSETS = "web/assets"
_SCRIPTS = ("vendor/uplot/uPlot.iife.min.js", "charts.js")
_STYLES = ("vendor/uplot/uPlot.min.css", "charts.css")
SIGNS = {"good": "\N{CHECK MARK}", "watch": "!", "bad": "\N{MULTIPLICATION X}", "unknown": "?"}
WORDS = {"good": "good", "watch": "watch", "bad": "bad", "unknown": "not known"}
"""Beside each colour a sign and a word: colours alone tell nothing to many people."""


def html(report: Report, series: dict[str, Any] | None) -> str:
    """The report as one HTML file, with the charts of `series` where there are any.

    It asks the network for nothing, and its policy forbids that, and every script and style but its own.
    """
    style = "\n".join((*map(_asset, _STYLES), _own("report.css")))
    script = "\n".join((*map(_asset, _SCRIPTS), _own("report.js"))) if series else ""
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)};"
        " base-uri 'none'; form-action 'none'"
    )
    found = _environment(autoescape=True).get_template("report.html")
    return found.render(
        report=report,
        series=Markup(script_json(series)) if series else None,  # noqa: S704  # escaped, see there
        style=Markup(style),  # noqa: S704  # of this package
        script=Markup(script),  # noqa: S704  # of this package
        policy=policy,
        signs=SIGNS,
        words=WORDS,
    )


def markdown(report: Report) -> str:
    """The report as Markdown: the same words and tables, without charts."""
    environment = _environment(autoescape=False)
    environment.finalize = _in_markdown
    found = environment.get_template("report.md")
    return found.render(report=report, signs=SIGNS, words=WORDS)


def script_json(found: dict[str, Any]) -> str:
    r"""JSON that may stand in an element of HTML, whatever its strings are.

    >>> script_json({"x": "</script>"})
    '{"x":"\\u003c/script\\u003e"}'
    """
    told = msgspec.json.encode(found).decode()
    for char in "<>&\N{LINE SEPARATOR}\N{PARAGRAPH SEPARATOR}":
        told = told.replace(char, f"\\u{ord(char):04x}")
    return told


_SPECIAL = re.compile(r"[\\`*~|]|(?<!\w)_|_(?!\w)|\](?=[(:\[])|^(?:[#>]|[-+](?=\s)|\d+(?=[.)]\s))")


def escaped(text: str) -> str:
    r"""Text as Markdown that shows it: no markup of its own, no rows of tables, no lines.

    >>> escaped("a|b <i>*x*</i> [c](d)")
    'a\\|b &lt;i&gt;\\*x\\*&lt;/i&gt; [c\\](d)'
    """
    line = " ".join(text.split())
    marked = _SPECIAL.sub(_marked, line)
    return marked.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _marked(found: re.Match[str]) -> str:
    told = found.group()
    return f"{told}\\" if told.isdigit() else f"\\{told}"


def _in_markdown(value: object) -> object:
    """What an expression of a template shows: strings are escaped unless they are told to be safe."""
    return escaped(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _environment(*, autoescape: bool) -> Environment:
    return Environment(
        loader=PackageLoader("abmonitor.report"),
        autoescape=autoescape,  # noqa: S701  # Markdown has its own
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _asset(name: str) -> str:
    return (resources.files("abmonitor") / _ASSETS / name).read_text("utf-8")


def _own(name: str) -> str:
    return (resources.files("abmonitor.report") / "templates" / name).read_text("utf-8")


def _hash(text: str) -> str:
    """As a content security policy names an inline script or style; nothing may stand where there is none."""
    if not text:
        return "'none'"
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
