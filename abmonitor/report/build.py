"""Builds a report: all its sections in the order in which people read them. Pure."""

from typing import Any

import msgspec

from abmonitor import __version__
from abmonitor.report.content import Report
from abmonitor.report.details import details
from abmonitor.report.flip import terms
from abmonitor.report.gather import Gathered
from abmonitor.report.health import health
from abmonitor.report.lines import lines
from abmonitor.report.opening import opening, recommended
from abmonitor.report.record import record
from abmonitor.report.saved import saved
from abmonitor.report.statistics import statistics
from abmonitor.report.words import moment


def build(given: Gathered) -> Report:
    """The report on one experiment."""
    found = given.found
    treatments = ", ".join(found["comparisons"])
    asked = "" if given.now is None else f"; asked at {moment(given.now)}"
    return Report(
        title=f"{given.name}: {treatments} against {found['control']}",
        subtitle=f"Data up to {moment(found['as_of'])}, from {given.source}{asked}. abmonitor {__version__}.",
        summary=tuple(opening(given)),
        appendix=(
            *details(given),
            statistics(given),
            health(given),
            *lines(given),
            *record(given, __version__),
        ),
        version=__version__,
    )


def as_document(given: Gathered) -> dict[str, Any]:
    """What a report computes, as plain data."""
    found: dict[str, Any] = {}
    for case in given.cases():
        told = given.answers(case)
        found[case.treatment] = {
            "recommendation": recommended(given, case).text,
            "answers": msgspec.to_builtins(told),
            "saved": msgspec.to_builtins(saved(case, given.series)),
            "flip": [msgspec.to_builtins(term) for term in terms(case)],
            "roi_range": case.facts["roi_range"],
            "net_business_value": case.facts["net_business_value"],
        }
    return {
        "experiment": given.name,
        "source": given.source,
        "as_of": given.found["as_of"],
        "treatments": found,
        "version": __version__,
    }
