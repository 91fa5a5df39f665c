import json
from urllib.parse import unquote, urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.actuators.template import (
    NUMBERS,
    TEXTS,
    Kind,
    TemplateError,
    address_problems,
    has_places,
    kind_of,
    problems,
    render,
)
from alerts.order import Order


ORDER = Order(
    id="offers:ranker-v2:3",
    experiment="offers",
    treatment="ranker-v2",
    control="rules-v1",
    decided_at=1_772_366_399_250,
    epoch=2,
    split={"rules-v1": 1.0, "ranker-v2": 0.0, "other": 0.1 + 0.2},
    versions=("2.1", "2.2"),
    reasons=("rap:sequential fails", "latency"),
)
ALL = (
    '{"d": "{decision}", "e": "{experiment}", "t": "{treatment}", "c": "{control}", "r": "{reason}",'
    ' "at": "{decided_at}", "ms": {decided_at_ms}, "n": {epoch}, "v": "{version}", "a": "{action}",'
    ' "s": {share.ranker-v2}, "o": {share.other}, "w": {share.rules-v1}, "whole": {experiment}}'
)
texts = st.text(max_size=30)
orders = st.builds(
    Order,
    id=texts,
    experiment=texts,
    treatment=texts,
    control=texts,
    decided_at=st.integers(0, 10**13),
    epoch=st.integers(1, 10**6),
    versions=st.lists(texts, max_size=3).map(tuple),
    reasons=st.lists(texts, max_size=3).map(tuple),
)


def test_every_placeholder_says_what_the_order_says() -> None:
    assert list(problems(ALL, Kind.JSON, ORDER.split)) == []
    assert json.loads(render(ALL, Kind.JSON, ORDER)) == {
        "d": "offers:ranker-v2:3",
        "e": "offers",
        "t": "ranker-v2",
        "c": "rules-v1",
        "r": "rap:sequential fails; latency",
        "at": "2026-03-01T11:59:59.250Z",
        "ms": 1_772_366_399_250,
        "n": 2,
        "v": "2.1,2.2",
        "a": "rollback",
        "s": 0,
        "o": 0.3,
        "w": 1,
        "whole": "offers",
    }


@given(orders)
def test_no_value_can_change_the_shape_of_a_json_body(order: Order) -> None:
    body = (
        '{"a": "x{experiment}y", "b": {reason}, "c": [{version}, {epoch}], "d": "\\"{treatment}"}'
    )
    assert list(problems(body, Kind.JSON)) == []
    assert json.loads(render(body, Kind.JSON, order)) == {
        "a": f"x{order.experiment}y",
        "b": "; ".join(order.reasons),
        "c": [",".join(order.versions), order.epoch],
        "d": f'"{order.treatment}',
    }


@given(orders)
def test_no_value_can_leave_its_part_of_an_address(order: Order) -> None:
    address = "https://host:8443/flags/{experiment}/x-{treatment}?v={control}&on=false"
    assert list(address_problems(address)) == []
    try:
        parts = urlsplit(render(address, Kind.ADDRESS, order))
    except TemplateError:
        assert {order.experiment, order.treatment, order.control} & {"", ".", ".."}
        return
    assert (parts.scheme, parts.netloc, parts.fragment) == ("https", "host:8443", "")
    assert [unquote(part) for part in parts.path.split("/")] == [
        "",
        "flags",
        order.experiment,
        f"x-{order.treatment}",
    ]
    assert [unquote(part) for part in parts.query.split("&")] == [f"v={order.control}", "on=false"]


@pytest.mark.parametrize("value", ["", ".", ".."])
def test_an_address_that_would_be_another_place_is_refused(value: str) -> None:
    order = msgspec.structs.replace(ORDER, experiment=value)
    with pytest.raises(TemplateError):
        render("https://host/flags/{experiment}/off", Kind.ADDRESS, order)


@given(orders)
def test_no_value_can_add_a_field_to_a_form_or_a_line_to_a_text(order: Order) -> None:
    form = render("a={experiment}&b={reason}", Kind.FORM, order)
    assert [part.partition("=")[0] for part in form.split("&")] == ["a", "b"]
    assert unquote(form.split("&")[0]) == f"a={order.experiment}"
    line = render("{experiment} {reason}", Kind.TEXT, order)
    assert len(line.splitlines()) <= 1
    assert not set(line) & set("\r\n\x00")


@given(orders)
def test_every_attempt_of_an_order_has_the_same_text(order: Order) -> None:
    body = '{"a": "{experiment}", "b": "{decided_at}"}'
    assert render(body, Kind.JSON, order) == render(body, Kind.JSON, msgspec.structs.replace(order))


def test_half_a_pair_of_utf_16_does_not_stop_an_order() -> None:
    order = msgspec.structs.replace(ORDER, experiment="\ud800")
    assert render('"{experiment}"', Kind.JSON, order).encode() == '"\ufffd"'.encode()
    assert render("https://host/{experiment}", Kind.ADDRESS, order) == "https://host/%EF%BF%BD"


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("share.rules-v1", msgspec.structs.replace(ORDER, split={})),
        ("share.rules-v1", msgspec.structs.replace(ORDER, split={"rules-v1": float("nan")})),
        ("decided_at", msgspec.structs.replace(ORDER, decided_at=10**30)),
    ],
)
def test_what_an_order_does_not_say_is_never_made_up(name: str, order: Order) -> None:
    with pytest.raises(TemplateError, match=name):
        render(f"{{{name}}}", Kind.JSON, order)


@pytest.mark.parametrize(
    "body", ["{}", "[]", "{ }", '{"a": {"b": {}}}', '{"a":{"b":[{}]}}', "{\n}"]
)
def test_braces_of_json_are_its_own(body: str) -> None:
    assert not has_places(body)
    assert list(problems(body, Kind.JSON)) == []
    assert render(body, Kind.JSON, ORDER) == body


def test_doubled_braces_give_a_word_in_braces() -> None:
    body = '{"regex": "{{experiment}}", "n": {"m": {"o": {epoch}}}}'
    assert list(problems(body, Kind.JSON)) == []
    rendered = json.loads(render(body, Kind.JSON, ORDER))
    assert rendered == {"regex": "{experiment}", "n": {"m": {"o": 2}}}


@pytest.mark.parametrize(
    ("body", "position", "says"),
    [
        ('{"a": "{experimnt}"}', "line 1, column 8", "{experimnt}"),
        ('{"a": "x",\n "b": "{Experiment}"}', "line 2, column 8", "{Experiment}"),
        ('{"a": "{ experiment }"}', "line 1, column 8", "{ experiment }"),
        ('{"a": "{share}"}', "line 1, column 8", "{share}"),
        ('{"a": {share.unknown}}', "line 1, column 7", "{share.unknown}"),
        ('{"a": "{experiment}",}', "line 1, column 2", "not JSON"),
        ('{"a": "{experiment}"', "line 1, column 21", "not JSON"),
        ('{"a": \n {experiment} {epoch}}', "line 2, column 15", "not JSON"),
        ('{"a": "\\{experiment}"}', "line 1, column 8", "not JSON"),
        ('{"a": "\\u00{experiment}"}', "line 1, column 9", "not JSON"),
        ('{"a": -{epoch}}', "line 1, column 7", "not JSON"),
        ('{"a": {epoch}.5}', "line 1, column 14", "not JSON"),
        ("{{epoch}: 1}", "line 1, column 2", "not JSON"),
        ("experiment={experiment}", "line 1, column 1", "not JSON"),
    ],
)
def test_a_mistake_is_told_with_its_position(body: str, position: str, says: str) -> None:
    told = list(problems(body, Kind.JSON, ["rules-v1", "ranker-v2"]))
    assert len(told) == 1, told
    assert told[0].startswith(position), told
    assert says in told[0]


def test_all_unknown_placeholders_are_told_at_once_with_what_there_is() -> None:
    told = list(problems("{a} {experiment} {b}", Kind.TEXT, ["x"]))
    assert [text.partition(":")[0] for text in told] == ["line 1, column 1", "line 1, column 18"]
    for name in (*TEXTS, *NUMBERS, "share.x"):
        assert f"{{{name}}}" in told[0]


@pytest.mark.parametrize("body", ['{"a": NaN}', "[" * 100_000])
def test_what_is_no_json_without_a_position_is_told_too(body: str) -> None:
    assert ["not JSON" in text for text in problems(body, Kind.JSON)] == [True]


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("https://{experiment}.host/", "not in the host"),
        ("https://host:{epoch}/", "not in the host"),
        ("https://me:{experiment}@host/", "not in the host"),
        ("{experiment}://host/", "not in the host"),
        ("https://host/{nothing}", "unknown placeholder"),
        ("https://host/{{x}}", "%7B"),
        ("https://host/../{experiment}", "another place"),
        ("https://host/%2e%2E/{experiment}", "another place"),
    ],
)
def test_an_address_that_could_lead_elsewhere_is_a_mistake(address: str, says: str) -> None:
    told = list(address_problems(address))
    assert len(told) == 1, told
    assert says in told[0]


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("application/json", Kind.JSON),
        ("Application/JSON; charset=utf-8", Kind.JSON),
        ("application/json; domain-model=launchdarkly.semanticpatch", Kind.JSON),
        ("application/merge-patch+json", Kind.JSON),
        ("application/x-www-form-urlencoded", Kind.FORM),
        ("text/plain", Kind.TEXT),
        ("application/xml", None),
        ("", None),
    ],
)
def test_how_values_are_escaped_follows_from_the_media_type(
    content_type: str, kind: Kind | None
) -> None:
    assert kind_of(content_type) is kind
