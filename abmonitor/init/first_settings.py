"""The text of a first settings file: what was found is filled in, the rest is marked TODO. Pure."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping

import yaml

from abmonitor.init.survey import NOWHERE, Source, Survey, source_options
from abmonitor.init.vocabulary import CONTROL
from abmonitor.live.findings import quantile, span
from abmonitor.operate.printable import printable
from metrics.duration import Duration
from metrics.experiment import DAY, HOUR, MINUTE
from stream.sources import FieldOptions


_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
_HORIZONS = [Duration(n * MINUTE) for n in (1, 2, 5, 10, 15, 30)]
_HORIZONS += [Duration(n * HOUR) for n in (1, 2, 4, 6, 12)]
_HORIZONS += [Duration(n * DAY) for n in (1, 2, 3, 7, 14, 30, 60, 90)]
_COMMENT_WIDTH = 96

_USUAL = {"control": 1, "candidate": 1}
_NAME = "my-experiment"


def text(survey: Survey) -> str:
    """A settings file that loads, and that `abmonitor check` calls unfinished until no TODO is left."""
    lines = list(_head(survey))
    lines += ["experiments:"]
    for name, counts in (survey.counts or {_NAME: Counter[str]()}).items():
        lines += [f"  {line}".rstrip() for line in _experiment(name, counts, survey)]
    if survey.sources:
        lines += ["", "sources:"]
        for source in survey.sources:
            lines += [f"  {line}" for line in _source(source)]
    return "\n".join(lines) + "\n"


def _head(survey: Survey) -> Iterator[str]:
    origin = ", ".join(source.sample.name for source in survey.sources)
    yield "# Settings for abmonitor" + (f", begun from {printable(origin)}." if origin else ".")
    yield "# What is marked TODO only a person can know; `abmonitor check` lists what is left of it."
    yield "# Addresses come from the environment: ABMONITOR_KAFKA (host:port), ABMONITOR_REDIS (redis://...)."
    if survey.outcomes and any(survey.counts.values()):
        yield f"# Of {survey.outcomes:,} outcomes in the samples {survey.met:,} met their prediction."
        if not survey.met:
            yield "# TODO: none did: compare what is mapped to prediction_id in both"
    yield ""


def _experiment(name: str, counts: Mapping[str, int], survey: Survey) -> Iterator[str]:
    seen = sum(counts.values())
    variants = dict(counts) if len(counts) > 1 else {**counts, **_others(counts)}
    control = _control(variants)
    order = [control, *(each for each in variants if each != control)]
    given = "" if counts and name != _NAME else "  # TODO: a name, also in what services send"
    yield f"- name: {_scalar(name)}{given}"
    yield f"  control: {_scalar(control)}  # TODO: the variant that is there already"
    split = ", ".join(f"{printable(each)} {counts[each]:,}" for each in order if each in counts)
    told = f"; the sample has {split}" if seen else ""
    yield from _todo(f"the variants with their intended shares of traffic{told}", "  ")
    shares = _shares({each: variants[each] for each in order})
    yield f"  variants: {{{', '.join(f'{_scalar(each)}: {part:g}' for each, part in shares.items())}}}"
    yield from _units(name, survey)
    yield from _labels(name, survey)
    yield from _todo(
        "what a correct action earns and what any action costs, in money; or q: their ratio; without it"
        " profit and RAP stay unknown",
        "  ",
    )
    yield "  # profitability: {unit_revenue: 60, unit_cost: 20}"
    if name in survey.rates:
        yield f"  predictions_per_second: {survey.rates[name]:.4g}  # as in the sample"
    else:
        yield "  # TODO: how many, so that `abmonitor check` can tell the memory that is needed"
        yield "  # predictions_per_second: 50"
    yield from _guardrails(seen=bool(seen), latency=not seen or name in survey.has_latency)


def _units(name: str, survey: Survey) -> Iterator[str]:
    same = survey.by_unit.get(name)
    chosen, why = "request", "or unit, where a customer always meets the same variant"
    if same is not None:
        chosen = "unit" if same else "request"
        why = f"request or unit; in the sample a unit_id {'always' if same else 'not always'} has one variant"
    yield f"  randomised_by: {chosen}  # TODO: {why}"


def _labels(name: str, survey: Survey) -> Iterator[str]:
    acted_only, delays = survey.acted_only.get(name, False), survey.delays.get(name)
    yield "  labels:"
    told = ": in the sample all outcomes are of predictions acted on" if acted_only else ""
    yield from _todo(
        "which predictions get an outcome: all, acted (those acted on), or explored (those, and some"
        f" others at random with a weight){told}",
        "    ",
    )
    yield f"    observed: {'acted' if acted_only else 'all'}"
    told, horizon = "", Duration(HOUR)
    if delays:
        p50, p99 = quantile(delays, 0.5), quantile(delays, 0.99)
        told = f"; in the sample outcomes came {span(p50)} (p50) and {span(p99)} (p99) after it"
        horizon = next((each for each in _HORIZONS if each >= 1.5 * p99), _HORIZONS[-1])
    yield from _todo(f"how long after its prediction an outcome still counts{told}", "    ")
    yield f"    horizon: {horizon}"
    yield "    grace: 5m  # how much later it may arrive"
    yield "    when_missing: negative  # TODO: what it means that no outcome came; or exclude"


def _guardrails(*, seen: bool, latency: bool) -> Iterator[str]:
    yield "  guardrails:"
    yield from _todo(
        "how much worse than the control a treatment may be, before it is rolled back", "    "
    )
    yield "    - {metric: error_rate, test: sequential, relative_margin: 0.5}"
    if latency:
        yield "    - {metric: latency_p99_ms, window: 5m, relative_margin: 0.5}"
    if not seen:
        yield "    # - {metric: rap, test: sequential, margin: 0.05}  # needs profitability"
    yield "  on_breach: {action: log}  # TODO: {action: webhook, url: {env: ROLLBACK_URL}} to act"


def _others(counts: Mapping[str, int]) -> dict[str, int]:
    """Variants for the place of those that were not seen."""
    only = next(iter(counts), None)
    if only is None:
        return _USUAL
    return {"candidate" if only != "candidate" else "control": counts[only]}


def _control(variants: Mapping[str, int]) -> str:
    """The variant whose name says that it is the present one, otherwise the most frequent."""
    for word in CONTROL:
        for name in variants:
            if word in re.split(r"[^a-z]+", name.lower()):
                return name
    return max(variants, key=lambda name: (variants[name], [-ord(c) for c in name]))


def _shares(counts: Mapping[str, int]) -> dict[str, float]:
    """Shares of traffic: those that were meant, if chance explains how the seen ones differ."""
    whole = sum(counts.values()) or 1
    equal = 1 / len(counts)
    if all(abs(count / whole - equal) <= _noise(equal, whole) for count in counts.values()):
        return dict.fromkeys(counts, round(equal, 4))
    shares = {}
    for name, count in counts.items():
        share = count / whole
        near = round(share * 20) / 20
        shares[name] = (
            near if abs(share - near) <= _noise(near, whole) and near else round(share, 2) or share
        )
    return shares


def _noise(share: float, whole: int) -> float:
    """Three standard errors of a share."""
    return 3 * math.sqrt(share * (1 - share) / whole)


def _source(source: Source) -> Iterator[str]:
    sample = source.sample
    whole = len(source.events)
    yield f"{_scalar(source.topic)}:  # {source.decoded:,} of {whole:,} records of {printable(sample.name)} can be used"
    if source.kind is None:
        yield "  {}  # its records are events as they are"
        return
    yield f"  type: {source.kind}"
    options = source_options(source.kind, source.guesses, source.missing, source.unused)
    missing = [name for name in source.missing if name not in options.fields]
    if options.fields:
        yield "  fields:"
    for name, given in options.fields.items():
        yield f"    {name}: {_place(given)}{_remark(name, source)}"
    for name in missing:
        yield f"    # TODO: no field looks like it: {name}: a.path"


def _remark(name: str, source: Source) -> str:
    """A comment behind a field."""
    if name in source.missing:
        return "  # TODO: no field has it; a constant if all records have the same"
    if name in source.unused:
        return f"  # what the records call {name} is something else"
    doubt = source.guesses[name].doubt
    return "" if doubt is None else f"  # TODO: {printable(doubt)}"


def _place(given: str | FieldOptions) -> str:
    if isinstance(given, str):
        return NOWHERE
    if given.path is not None and given.unit is None and given.true_when is None:
        return _scalar(given.path)
    parts = []
    for name in ("path", "header", "constant", "unit"):
        value = getattr(given, name)
        if value is not None:
            parts.append(f"{name}: {_scalar(value)}")
    if given.true_when is not None:
        parts.append(f"true_when: [{', '.join(map(_scalar, given.true_when))}]")
    return f"{{{', '.join(parts)}}}"


def _scalar(value: object) -> str:
    """A value as YAML reads it back, whatever is in it."""
    if not isinstance(value, str):
        return json.dumps(value)
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    dumped: str = yaml.safe_dump(value, default_style='"', allow_unicode=True, width=10**9)
    return dumped.strip()


def _todo(message: str, indent: str) -> Iterator[str]:
    """A comment that may need several lines; only the first says TODO."""
    line, begin = f"{indent}# TODO:", f"{indent}#  "
    for word in printable(message).split(" "):
        if len(line) + len(word) >= _COMMENT_WIDTH:
            yield line
            line = begin
        line += f" {word}"
    yield line
