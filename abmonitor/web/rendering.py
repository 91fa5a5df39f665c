"""Templates and how they write things; everything that comes from outside is escaped. This module does I/O (its own files)."""

from functools import cache
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from abmonitor import __version__
from abmonitor.web import drawing, words


_FILTERS = (
    words.amount,
    words.difference_of,
    words.level_of,
    words.machine_time,
    words.metric_name,
    words.moment,
    words.percent,
    words.points,
    words.signed,
    words.span,
    words.state_name,
    words.titled,
)


@cache
def environment() -> Environment:
    """The templates of the page."""
    found = Environment(
        loader=PackageLoader("abmonitor.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    found.filters |= {each.__name__: each for each in _FILTERS}
    found.filters["in_url"] = lambda text: quote(text, safe="")
    found.globals |= {
        "UNKNOWN": words.UNKNOWN,
        "SIGNS": words.SIGNS,
        "VERSION": __version__,
        "diverging_bar": drawing.diverging_bar,
        "range_line": drawing.range_line,
        "share_bar": drawing.share_bar,
    }
    return found


def compile_all() -> None:
    """Read and compile every template, so that nobody who looks has to wait for it."""
    for name in environment().list_templates(extensions=["html"]):
        environment().get_template(name)


def rendered(template: str, **given: Any) -> Markup:
    """The template with what it is given; browsers would drop blanks around parts, so they have none."""
    return Markup(environment().get_template(template).render(given).strip())  # noqa: S704  # escaped by it


def macro(template: str, name: str) -> Any:
    """A macro of a template, to be called for one cell."""
    return getattr(_module(template), name)


@cache
def _module(template: str) -> Any:
    return environment().get_template(template).module
