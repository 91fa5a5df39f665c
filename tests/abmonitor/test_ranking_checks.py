import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from abmonitor.ranking import checks, lines
from abmonitor.ranking.reading import Candidates, ContentsError, Roles, open_candidates


GOOD: dict[str, list[Any]] = {"label": [1, 0, 1, 0], "good": [0.5, 0.25, 1.0, 0.0]}


def opened(
    folder: Path, content: str | pa.Table, *, drop_unlabelled: bool = False, **roles: Any
) -> Candidates:
    path = folder / "file"
    if isinstance(content, str):
        path.write_text(content)
    else:
        parquet.write_table(content, path)
    return open_candidates(path, Roles(**roles), drop_unlabelled=drop_unlabelled)


def passed(candidates: Candidates) -> Candidates:
    for chunk in candidates.chunks():
        assert ((chunk.scores >= 0) & (chunk.scores <= 1)).all()
    return candidates


def refused(folder: Path, content: str | pa.Table, **roles: Any) -> str:
    candidates = opened(folder, content, **roles)
    with pytest.raises(ContentsError) as error:
        passed(candidates)
    return str(error.value).replace(f"{folder / 'file'}: ", "")


def as_csv(columns: dict[str, list[Any]]) -> str:
    rows = [
        ",".join("" if cell is None else str(cell) for cell in row)
        for row in zip(*columns.values(), strict=True)
    ]
    return "\n".join([",".join(columns), *rows, ""])


def as_json(columns: dict[str, list[Any]]) -> str:
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return "\n".join(json.dumps(row) for row in rows)


@pytest.mark.parametrize(
    ("cells", "what", "row", "rows"),
    [
        ([0.5, 1.5, 0, 1], "1.5", 1, 1),
        ([0.5, -0.25, 0, 1], "-0.25", 1, 1),
        ([0.5, 2, -0.5, 7], "2", 1, 3),
        ([0.5, 1, 0, float("inf")], "inf", 3, 1),
        ([0.5, None, 0, 1], None, 1, 1),
        ([None, 0.5, None, None], None, 0, 3),
        ([0.5, 1, float("nan"), 0], None, 2, 1),
        ([None, 7, 0, 0], None, 0, 2),
        (["0.5", "yes", "1", "no"], "'yes'", 1, 2),
        (["0.5", "1", "", "0"], None, 2, 1),
        (["true", "False", "N/A", "TRUE"], None, 2, 1),
    ],
)
@pytest.mark.parametrize("write", [as_csv, as_json, pa.table])
def test_a_model_without_a_score_somewhere_is_listed_and_the_others_are_ranked(
    tmp_path: Path, write: Any, cells: list[Any], what: str | None, row: int, rows: int
) -> None:
    candidates = passed(opened(tmp_path, write({**GOOD, "bad": cells})))
    where = f"row {row + 1}" if write is pa.table else f"line {row + 1 + (write is as_csv)}"
    reason = f"no score in {where}"
    if what is not None:
        reason = f"{what} in {where}: expected a score from 0 to 1, or true or false"
    if rows > 1:
        reason += f" ({rows} rows cannot be used)"
    assert candidates.faults == {"bad": reason}
    assert candidates.models == ("good", "bad")


@pytest.mark.parametrize(
    ("column", "what"),
    [
        (pa.array([[0.5], [1], [0], [1]]), "[0.5]"),
        (pa.array([0, 1, 2, 3], pa.date32()), "1970-01-01"),
        (pa.array(["x" * 100] * 4), "'" + "x" * 38 + "…"),
        (pa.array(["low", "high", "low", "low"]).dictionary_encode(), "'low'"),
    ],
)
def test_columns_that_hold_no_numbers_are_listed(tmp_path: Path, column: Any, what: str) -> None:
    candidates = passed(opened(tmp_path, pa.table({**GOOD, "bad": column})))
    assert candidates.faults["bad"].startswith(f"{what} in row 1: expected a score from 0 to 1")


def test_a_column_of_nothing_is_listed(tmp_path: Path) -> None:
    content = pa.table({**GOOD, "bad": pa.nulls(4)})
    assert passed(opened(tmp_path, content)).faults == {
        "bad": "no score in row 1 (4 rows cannot be used)"
    }


def test_bytes_that_are_no_text_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"label,good,bad\n1,0,0\n0,1,\xe9\n")
    candidates = passed(open_candidates(path, Roles()))
    assert candidates.faults["bad"].startswith("'\N{REPLACEMENT CHARACTER}' in line 3")


def test_without_a_model_that_can_be_ranked_the_file_is_refused(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {"label": [1], **{f"m{place}": ["x"] for place in range(7)}}
    said = refused(tmp_path, as_csv(columns)).splitlines()
    assert said[0] == "no model can be ranked:"
    assert said[1] == "  'm0': 'x' in line 2: expected a score from 0 to 1, or true or false"
    assert said[-1] == "  and 2 more"
    candidates = opened(tmp_path, as_csv(columns))
    for place in range(6):
        assert len(list(candidates.chunks([place]))) == 1
    with pytest.raises(ContentsError, match="no model can be ranked"):
        list(candidates.chunks([6]))


def test_a_constant_model_is_ranked_and_listed(tmp_path: Path) -> None:
    columns = {**GOOD, "all": [1] * 4, "half": [0.5] * 4, "not": [0.5, 0.5, 0.5, 0.75]}
    candidates = passed(opened(tmp_path, as_csv({**columns, "bad": [1, 1, None, 1]})))
    assert candidates.constant == ("all", "half")
    assert list(candidates.faults) == ["bad"]


def test_constant_is_judged_over_all_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "BLOCK_BYTES", 16)
    columns: dict[str, list[Any]] = {
        "label": [0, 1] * 50,
        "steps": [0] * 50 + [1] * 50,
        "flat": [0.5] * 100,
    }
    candidates = passed(opened(tmp_path, as_csv(columns)))
    assert candidates.constant == ("flat",)
    in_groups = opened(tmp_path, as_csv(columns))
    for place in (1, 0):
        list(in_groups.chunks([place]))
    assert in_groups.constant == ("flat",)


@pytest.mark.parametrize(
    ("write", "where"), [(as_csv, "line 3"), (as_json, "line 2"), (pa.table, "row 2")]
)
def test_a_missing_label_is_an_error_that_counts_them(
    tmp_path: Path, write: Any, where: str
) -> None:
    content = write({"label": [1, None, 0, None], "a": [0.5, 7, 0.25, 0.5]})
    assert refused(tmp_path, content) == (
        f"{where}, column 'label': no label; 2 of 4 rows have none: label them, or leave them out with"
        " --drop-unlabelled"
    )
    candidates = passed(opened(tmp_path, content, drop_unlabelled=True))
    assert (candidates.rows, candidates.dropped, candidates.faults) == (2, 2, {})
    (chunk,) = candidates.chunks()
    assert chunk.labels.tolist() == [True, False]
    assert chunk.scores.tolist() == [[0.5], [0.25]]


def test_rows_that_were_left_out_do_not_move_lines(tmp_path: Path) -> None:
    content = "label,a,b\n,1,1\nNA,0,0\n1,0.5,0.5\n\n0,1.5,0\n"
    candidates = passed(opened(tmp_path, content, drop_unlabelled=True))
    assert candidates.faults["a"].startswith("1.5 in line 6")


def test_a_file_without_any_label_is_refused(tmp_path: Path) -> None:
    content = as_csv({"label": [None, None], "a": [1, 0]})
    with pytest.raises(ContentsError, match="none of its 2 rows has a label"):
        passed(opened(tmp_path, content, drop_unlabelled=True))


@pytest.mark.parametrize(
    ("cell", "got"), [("yes", "'yes'"), ("2", "2"), ("-1", "-1"), ("0.5", "0.5"), ("inf", "inf")]
)
def test_other_labels_are_refused(tmp_path: Path, cell: str, got: str) -> None:
    said = f"line 4, column 'label': expected a label of 0 or 1, or true or false, got {got};"
    content = f"label,a\n1,1\n,0\n{cell},0\n"
    assert refused(tmp_path, content, drop_unlabelled=True).startswith(said)
    assert refused(tmp_path, content.replace("\n,0", "\n0,0")).startswith(said)


@pytest.mark.parametrize(
    ("cell", "role", "said"),
    [
        ("", "value", "expected a value as a number in every row, got nothing"),
        ("much", "value", "expected a value as a number in every row, got 'much'"),
        ("inf", "value", "expected a value as a number in every row, got inf"),
        ("", "cost", "expected a cost of at least 0 in every row, got nothing"),
        ("-0.5", "cost", "expected a cost of at least 0 in every row, got -0.5"),
    ],
)
def test_values_and_costs_are_numbers(tmp_path: Path, cell: str, role: str, said: str) -> None:
    content = f"label,money,a\n1,2.5,0\n1,{cell},0\n"
    assert refused(tmp_path, content, **{role: "money"}) == f"line 3, column 'money': {said}"


def test_values_may_be_negative_and_keep_their_digits(tmp_path: Path) -> None:
    content = "label,v,c,a\n1,-1234567.89,0,0\n"
    (chunk,) = opened(tmp_path, content, value="v", cost="c").chunks()
    assert chunk.values is not None
    assert chunk.values.tolist() == [-1234567.89]


@pytest.mark.parametrize(
    "ids",
    [["x", "y", "z", "x"], ["x", "yé", "x ", "yé"], [2**53, 2**53 + 1, 7, 2**53], [1, 1.5, 2, 1.5]],
)
@pytest.mark.parametrize("write", [as_csv, as_json, pa.table])
def test_an_id_that_comes_twice_is_named_with_both_rows(
    tmp_path: Path, write: Any, ids: list[Any]
) -> None:
    unit = "row" if write is pa.table else "line"
    first = 1 + (write is as_csv)
    again = len(ids) - 1 + first
    before = ids.index(ids[-1]) + first
    shown = str(ids[-1]) if write is as_csv else ids[-1]
    expected = f"id {shown!r} is in {unit} {before} and again in {unit} {again}"
    said = refused(tmp_path, write({"id": ids, **GOOD}), id="id")
    assert said == f"{expected}; every row needs an id of its own"


def test_different_ids_with_one_hash_are_no_duplicates(tmp_path: Path) -> None:
    same_hash = [-1, -2, 2**61 - 1, 0]
    assert hash(same_hash[0]) == hash(same_hash[1])
    candidates = opened(tmp_path, pa.table({"id": same_hash, **GOOD}), id="id")
    assert passed(candidates).rows == 4


def test_ids_of_rows_left_out_do_not_count(tmp_path: Path) -> None:
    content = "id,label,a\nx,,0\nx,1,0.5\ny,0,1\n"
    assert passed(opened(tmp_path, content, id="id", drop_unlabelled=True)).rows == 2


@pytest.mark.parametrize("ids", [["x", None], ["x", ""], [1, None], [1.5, float("nan")]])
def test_every_row_has_an_id(tmp_path: Path, ids: list[Any]) -> None:
    content = pa.table({"id": ids, "label": [0, 1], "a": [0, 1]})
    assert refused(tmp_path, content, id="id") == (
        "row 2, column 'id': no id; give every row one, or rank without a column of ids"
    )


def test_ids_are_looked_at_in_the_first_pass_over_some_models_too(tmp_path: Path) -> None:
    content = as_csv({"id": [1, 2, 3, 1], **GOOD})
    with pytest.raises(ContentsError, match="id '1' is in line 2 and again in line 5"):
        list(opened(tmp_path, content, id="id").chunks([0]))


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    cells=st.lists(
        st.lists(st.sampled_from(["0", "1", "0.5", "true", "2", "x", ""]), min_size=3, max_size=3),
        min_size=1,
        max_size=40,
    ),
    size=st.integers(8, 64),
)
def test_faults_do_not_depend_on_where_the_file_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cells: list[list[str]], size: int
) -> None:
    monkeypatch.setattr(lines, "BLOCK_BYTES", size)
    rows = [f"{place % 2},1,{','.join(row)}" for place, row in enumerate(cells)]
    candidates = passed(opened(tmp_path, "\n".join(["label,good,a,b,c", *rows])))
    for place, model in enumerate("abc"):
        bad = [row for row, found in enumerate(cells) if found[place] in ("2", "x", "")]
        assert (model in candidates.faults) == bool(bad)
        if bad:
            assert f" in line {bad[0] + 2}" in candidates.faults[model]
            counted = f"({len(bad)} rows cannot be used)"
            assert candidates.faults[model].endswith(counted) == (len(bad) > 1)
        same = {float(found[place].replace("true", "1")) for found in cells} if not bad else set()
        assert (model in candidates.constant) == (len(same) == 1)


def test_faults_add_up_and_keep_the_first() -> None:
    assert checks.Fault(3, "7", 2) + checks.Fault(9, None, 1) == checks.Fault(3, "7", 3)
    assert checks.Fault(3, None, 1).text("row") == "no score in row 3"
