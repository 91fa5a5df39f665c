"""Boards: whoever looks gets what changed since, and putting it together gives the whole picture."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from abmonitor.web.board import Board, Picture


class Reader:
    """Does with news what the page does."""

    def __init__(self) -> None:
        self.mark = ""
        self.parts = dict[str, str]()
        self.lists = dict[str, dict[str, list[str]]]()
        self.series: Any = None

    def look(self, board: Board) -> bytes | None:
        told = board.since(self.mark)
        if told is not None:
            self.hear(json.loads(told))
        return told

    def hear(self, news: dict[str, Any]) -> None:
        self.mark = news["mark"]
        self.parts |= news["parts"]
        self.series = news.get("series", self.series)
        for name, one in news["lists"].items():
            rows = self.lists.setdefault(name, {})
            rows |= one.get("new", {})
            for key, cells in one.get("cells", {}).items():
                for place, text in cells.items():
                    rows[key][int(place)] = text
            if "order" in one:
                self.lists[name] = {key: rows[key] for key in one["order"]}

    def sees(self, picture: Picture) -> bool:
        lists = {name: [*map(list, rows.values())] for name, rows in picture.lists.items()}
        orders = {name: [*rows] for name, rows in picture.lists.items()}
        return (
            self.parts == picture.parts
            and {name: [*rows.values()] for name, rows in self.lists.items()} == lists
            and {name: [*rows] for name, rows in self.lists.items()} == orders
            and self.series == (picture.series and json.loads(picture.series))
        )


_texts = st.sampled_from("abc")
_rows = st.dictionaries(st.sampled_from("wxyz"), st.tuples(_texts, _texts), max_size=4)
_pictures = st.builds(
    Picture,
    parts=st.fixed_dictionaries({"p": _texts, "q": _texts}),
    lists=st.fixed_dictionaries({"rows": _rows}),
    series=st.sampled_from((b"1", b"2")),
)


@given(st.lists(st.tuples(_pictures, st.booleans()), min_size=1, max_size=12))
def test_whoever_looks_now_and_then_sees_what_there_is(
    steps: list[tuple[Picture, bool]],
) -> None:
    board, often, seldom = Board(), Reader(), Reader()
    for picture, looks in steps:
        board.show(picture)
        often.look(board)
        assert often.sees(picture)
        if looks:
            seldom.look(board)
            assert seldom.sees(picture)
    seldom.look(board)
    assert seldom.sees(steps[-1][0])


def test_what_did_not_change_is_not_told_again() -> None:
    board, reader = Board(), Reader()
    rows = {f"r{n}": ("name", "1", "same") for n in range(3)}
    board.show(Picture({"a": "1", "b": "2"}, {"rows": rows}, b"[1]"))
    reader.look(board)
    assert reader.look(board) is None
    changed = {**rows, "r1": ("name", "2", "same")}
    board.show(Picture({"a": "1", "b": "3"}, {"rows": changed}, b"[1]"))
    told = msgspec.json.decode(board.since(reader.mark) or b"")
    assert told == {
        "mark": board.mark,
        "parts": {"b": "3"},
        "lists": {"rows": {"cells": {"r1": {"1": "2"}}}},
    }


@pytest.mark.parametrize("mark", ["", "x", "other.1", ".", "{}.99", "{}.-1", "{}.²", "{}.1e3"])
def test_a_mark_that_is_not_of_this_board_gets_everything(mark: str) -> None:
    board, reader = Board(), Reader()
    picture = Picture({"a": Markup("<b>")}, {"rows": {"r": ("c",)}}, b"{}")
    board.show(picture)
    reader.mark = mark.format(board.mark.split(".")[0])
    reader.look(board)
    assert reader.sees(picture)
    assert reader.mark == board.mark


def test_what_many_have_seen_is_written_once() -> None:
    board = Board()
    board.show(Picture({"a": "1"}))
    assert board.since("") is board.since("other")
