import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import csv, parquet

from abmonitor.ranking import lines, parquet_file, reading
from abmonitor.ranking.reading import Candidates, ContentsError, FileError, Roles, open_candidates


LABELS = [True, False, True]
SCORES = [[0.5, 1.0], [0.25, 0.0], [0.75, 1.0]]
CSV = "label,a,b\n1,0.5,1\n0,0.25,0\n1,0.75,1\n"
JSON = "\n".join(
    json.dumps(row)
    for row in (
        {"label": True, "a": 0.5, "b": 1},
        {"b": 0, "a": 0.25, "label": False},
        {"a": 0.75, "label": True, "b": 1},
    )
)


def written(folder: Path, content: str | bytes | pa.Table, name: str = "file") -> Path:
    path = folder / name
    if isinstance(content, pa.Table):
        parquet.write_table(content, path)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def opened(folder: Path, content: str | bytes | pa.Table, **roles: Any) -> Candidates:
    return open_candidates(written(folder, content), Roles(**roles))


def read(
    candidates: Candidates, models: list[int] | None = None
) -> tuple[list[bool], list[list[float]]]:
    chunks = list(candidates.chunks(models))
    labels = np.concatenate([chunk.labels for chunk in chunks])
    return labels.tolist(), np.concatenate([chunk.scores for chunk in chunks]).tolist()


def refused(folder: Path, content: str | bytes | pa.Table, **roles: Any) -> str:
    """What is said of a file, without the name of the file."""
    with pytest.raises(FileError) as error:
        read(opened(folder, content, **roles))
    return str(error.value).replace(f"{folder / 'file'}: ", "")


def table(**columns: Any) -> pa.Table:
    return pa.table({"label": [1, 0, 1], "a": [0.5, 0.25, 0.75], "b": [1, 0, 1]} | columns)


@pytest.mark.parametrize(
    "content",
    [
        CSV,
        CSV.replace("\n", "\r\n"),
        CSV.rstrip(),
        "\n" + CSV.replace("1\n", "1\n\n"),
        CSV.replace(",", ";"),
        CSV.replace(",", ";").replace(".", ","),
        CSV.replace(",", "\t"),
        CSV.replace(",", "|"),
        CSV.replace(",", " , "),
        b"\xef\xbb\xbf" + CSV.encode(),
        '"label","a","b"\n"1","0.5","1"\n"0",0.25,0\n1,.75,1e0\n',
        "label,a,b\nTrue,0.5,True\nFalse,+0.25,False\nTRUE,7.5e-1,true\n",
        "label,a,b\n1.0,0.5,TRUE\n0.0,0.25,0\n1,0.75,1\n",
        gzip.compress(CSV.encode(), mtime=0),
        JSON,
        JSON.replace("\n", "\r\n\r\n"),
        JSON.replace("0.5", '"0.5"').replace("true", '"True"'),
        JSON.replace("true", "1").replace('"b": 1', '"b": true'),
        gzip.compress(JSON.encode(), mtime=0),
        table(),
        table(label=[True, False, True], b=[True, False, True]),
        table(a=pa.array(np.array([0.5, 0.25, 0.75], np.float16))),
        table(a=[Decimal("0.50"), Decimal("0.25"), Decimal("0.75")]),
        table(b=pa.array(["1", "0", "1"]).dictionary_encode()),
        table(a=pa.array([0.5, 0.25, 0.75]).dictionary_encode()),
        table(label=["true", "false", "True"], b=pa.array([1, 0, 1], pa.uint8())),
        table(a=pa.array(["0.5", " 0.25", "0.75"], pa.large_string())),
    ],
)
def test_the_same_is_read_however_it_is_written(
    tmp_path: Path, content: str | bytes | pa.Table
) -> None:
    candidates = opened(tmp_path, content)
    assert candidates.models == ("a", "b")
    assert read(candidates) == (LABELS, SCORES)
    assert (candidates.rows, candidates.dropped, candidates.faults) == (3, 0, {})


def test_scores_are_rows_of_float32(tmp_path: Path) -> None:
    (chunk,) = opened(tmp_path, CSV).chunks()
    assert chunk.scores.dtype == np.float32
    assert chunk.scores.flags.c_contiguous
    assert chunk.labels.dtype == bool
    assert (chunk.first_row, chunk.values, chunk.costs, chunk.done) == (0, None, None, 1.0)


def test_some_models_are_read_in_the_order_asked_for_and_as_often_as_one_likes(
    tmp_path: Path,
) -> None:
    for content in (CSV, JSON, table()):
        candidates = opened(tmp_path, content)
        assert read(candidates, [1, 0]) == (LABELS, [row[::-1] for row in SCORES])
        assert read(candidates, [1]) == (LABELS, [row[1:] for row in SCORES])
        assert read(candidates) == (LABELS, SCORES)


def test_columns_have_the_roles_they_are_given(tmp_path: Path) -> None:
    content = "who,y,m_1,m_2,worth,price,note\nx,1,0,1,9.5,1,?\ny,0,1,1,-2,0,!\n"
    roles = {"label": "y", "id": "who", "value": "worth", "cost": "price", "models": ("m_*",)}
    candidates = opened(tmp_path, content, **roles)
    (chunk,) = candidates.chunks()
    assert candidates.models == ("m_1", "m_2")
    assert chunk.values is not None
    assert chunk.costs is not None
    assert (chunk.values.tolist(), chunk.costs.tolist()) == ([9.5, -2.0], [1.0, 0.0])


def test_a_name_with_signs_of_patterns_is_a_name_too(tmp_path: Path) -> None:
    content = "label,net[1],net1\n1,0.5,0\n"
    assert opened(tmp_path, content, models=("net[1]",)).models == ("net[1]", "net1")
    assert opened(tmp_path, "label,net[a\n1,0\n", models=("net[a",)).models == ("net[a",)


def test_names_may_be_longer_than_modules_for_csv_like(tmp_path: Path) -> None:
    names = [f"model_{place}" for place in range(20_000)]  # 250 kB, one cell for a wrong separator
    content = f"label,{','.join(names)}\n1{',0.5' * len(names)}\n"
    assert opened(tmp_path, content).models == tuple(names)
    assert "does not name the columns" in refused(tmp_path, "x" * 200_000)


@pytest.mark.parametrize("index", ["", "Unnamed: 0", "__index_level_0__"])
def test_the_index_of_pandas_is_no_model_unless_asked_for(tmp_path: Path, index: str) -> None:
    content = f"{index},label,a\n0,1,0.5\n1,0,0.25\n"
    for separator in ",\t":
        candidates = opened(tmp_path, content.replace(",", separator))
        assert (candidates.models, candidates.left_out) == (("a",), (index,))
        assert read(candidates) == ([True, False], [[0.5], [0.25]])
    assert opened(tmp_path, content, models=("*",)).models == ("a",)
    asked = opened(tmp_path, content, models=(index, "a"))
    assert (asked.models, asked.left_out) == ((index, "a"), ())


def test_dots_in_names_are_no_paths_in_parquet(tmp_path: Path) -> None:
    made = pa.table({"label": [1, 0], "m": [0.5, 0.25], "m.1": [0.75, 1.0], "m.2": [0.0, 0.0]})
    candidates = opened(tmp_path, made)
    assert read(candidates, [0]) == ([True, False], [[0.5], [0.25]])
    assert read(candidates, [1]) == ([True, False], [[0.75], [1.0]])


def test_cells_may_have_lines_and_separators_in_them(tmp_path: Path) -> None:
    content = 'id,label,a\n"x,\n""1""\n",1,0.5\ny,0,0.25\n'
    assert read(opened(tmp_path, content, id="id")) == ([True, False], [[0.5], [0.25]])


def test_a_separator_given_is_not_guessed(tmp_path: Path) -> None:
    path = written(tmp_path, "label;a,b\n1;0\n")
    assert open_candidates(path, Roles(), separator=";").models == ("a,b",)
    tabs = written(tmp_path, "label\ta;b\n1\t0\n")
    for typed in ("\t", r"\t"):
        assert open_candidates(tabs, Roles(), separator=typed).models == ("a;b",)
    path = written(tmp_path, "label;a,b\n1;0\n")
    for wrong in ("", ";;", '"'):
        with pytest.raises(FileError, match="--separator: expected one character"):
            open_candidates(path, Roles(), separator=wrong)
    with pytest.raises(FileError, match="--separator is for CSV"):
        open_candidates(written(tmp_path, table()), Roles(), separator=";")


def test_names_of_models_with_many_separators_do_not_mislead(tmp_path: Path) -> None:
    content = "label,a;depth=1;lr=2,b;depth=2;lr=3\n1,0.5,0.25\n"
    assert opened(tmp_path, content).models == ("a;depth=1;lr=2", "b;depth=2;lr=3")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "the file is empty; expected a line with the names of columns, and rows"),
        ("\n \n", "the file is empty; expected a line with the names of columns, and rows"),
        ("label,a\n", "it has no rows; expected rows with a label and scores"),
        ("label\n1\n", "no columns of models; expected decisions or scores beside 'label'"),
        ("label,a,a\n1,0,0\n", "columns 2 and 3 are both named 'a'; rename one of them"),
        ("a,label,label\n1,0,0\n", "columns 2 and 3 are both named 'label'; rename one of them"),
        (
            "lable,a\n1,0\n",
            "no column 'label'; expected --label to name one of 'lable', 'a'; did you mean 'lable'?",
        ),
        (
            "1,0,0.5\n0,1,0.25\n",
            (
                "no column 'label'; expected --label to name one of '1', '0', '0.5';"
                " the first line has to hold the names of columns"
            ),
        ),
        (
            "label,a\r1,0\r",
            "its lines end with a carriage return alone; convert them (`tr '\\r' '\\n'`)",
        ),
        (
            "label,a\n1,1\n\n0,1,2\n",
            (
                "line 4: expected 2 cells separated by ',' as in the first line, got 3; text with a comma needs"
                " double quotes around it, and numbers a decimal point"
            ),
        ),
        (
            "label,a\n1,1\n0\n",
            "line 3: expected 2 cells separated by ',' as in the first line, got 1",
        ),
        (
            'label,a\n\n1,"0\n\n5"\n0,1,1\n',
            (
                "line 6: expected 2 cells separated by ',' as in the first line, got 3; text with a comma needs"
                " double quotes around it, and numbers a decimal point"
            ),
        ),
        (CSV.encode("utf-16"), "this is UTF-16; save it as UTF-8"),
        (
            "label,é\n1,0\n".encode("latin1"),
            (
                "the names of columns are not UTF-8 (byte 0xe9); save the file as UTF-8"
                " (`iconv -f latin1 -t utf-8`)"
            ),
        ),
        (b"\x00\x01\n", "this is no text; expected CSV, Parquet or JSON lines"),
        (b"PK\x03\x04...", "is a zip or Excel file; save it as CSV"),
        (
            '[{"label": 1, "a": 0}]',
            "is one JSON array; expected one object on each line (`jq -c '.[]'` writes that)",
        ),
        (
            '{"label": 1, "a": 0}\n{"label": 1\n',
            (
                "line 2 is not JSON (Expecting ',' delimiter: line 1 column 12 (char 11));"
                " expected one object on each line"
            ),
        ),
        (
            '{"label": 1, "a": 0}\n[1, 0]\n',
            'line 2: expected a JSON object such as {"label": 1, "model": 0.7}, got list',
        ),
    ],
)
def test_a_file_that_cannot_be_ranked_says_why(
    tmp_path: Path, content: str | bytes, said: str
) -> None:
    assert refused(tmp_path, content) == said


def test_columns_that_are_not_there_are_wrong_usage_and_contents_are_not(tmp_path: Path) -> None:
    with pytest.raises(FileError) as usage:
        opened(tmp_path, CSV, label="y")
    assert not isinstance(usage.value, ContentsError)
    with pytest.raises(ContentsError):
        read(opened(tmp_path, "label,a\nmaybe,1\n"))


def test_columns_are_named_once_and_for_one_role(tmp_path: Path) -> None:
    assert refused(tmp_path, CSV, id="label") == (
        "column 'label' is given as --label and as --id; expected another one for each"
    )
    assert refused(tmp_path, CSV, models=("a", "c*")) == (
        "--models 'c*': expected a name or pattern of one of 'a', 'b'"
    )
    many = "label," + ",".join(f"m{number}" for number in range(2000)) + "\n"
    said = refused(tmp_path, many, cost="price")
    assert "no column 'price'; expected --cost to name one of 'label', 'm0'," in said
    assert said.endswith("and 1,989 more")


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="No such file"):
        open_candidates(tmp_path / "none.csv", Roles())
    with pytest.raises(FileError, match="is a folder"):
        open_candidates(tmp_path, Roles())


def test_a_page_of_parquet_that_differs_from_its_checksum_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "summed.parquet"
    scores = np.linspace(0, 1, 900)
    parquet.write_table(
        pa.table({"label": scores > 0.5, "a": scores}),
        path,
        write_page_checksum=True,
        use_dictionary=False,
        compression="none",
    )
    content = path.read_bytes()
    assert content.count(scores[700:].tobytes()) == 1
    path.write_bytes(content.replace(scores[700:].tobytes(), scores[:200].tobytes()))
    with pytest.raises(ContentsError, match=r"cannot be read as Parquet .*checksum"):
        read(open_candidates(path, Roles()))


def test_broken_files_are_told_from_wrong_ones(tmp_path: Path) -> None:
    packed = gzip.compress(("label,a\n" + "1,0.123\n0,0.7\n" * 5000).encode())
    assert "the gzip file is broken" in refused(tmp_path, packed[:-20])
    path = written(tmp_path, table())
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ContentsError, match="cannot be read as Parquet"):
        open_candidates(path, Roles())
    assert "is Parquet packed by gzip" in refused(tmp_path, gzip.compress(b"PAR1", mtime=0))


def test_a_file_that_changes_between_passes_is_refused(tmp_path: Path) -> None:
    candidates = opened(tmp_path, CSV)
    read(candidates)
    written(tmp_path, CSV + "0,0,0\n")
    with pytest.raises(ContentsError, match="has changed since it was opened"):
        read(candidates)


def made(rows: int, models: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32], pa.Table]:
    rng = np.random.default_rng(rows)
    labels = rng.random(rows) < 0.3
    scores = rng.random((rows, models)).astype(np.float32).round(4)
    columns = {f"m{place}": scores[:, place] for place in range(models)}
    return labels, scores, pa.table({"label": labels.astype(int), **columns})


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "jsonl", "parquet", "short groups"])
@pytest.mark.parametrize("chunk_rows", [7, 1000])
def test_chunks_are_bounded_and_together_the_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, chunk_rows: int
) -> None:
    labels, scores, whole = made(500, 3)
    path = tmp_path / "file"
    if kind.startswith("csv"):
        with path.open("wb") if kind == "csv" else gzip.open(path, "wb") as file:
            csv.write_csv(whole, file)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in whole.to_pylist()))
    else:
        parquet.write_table(whole, path, row_group_size=30 if kind == "short groups" else 500)
    monkeypatch.setattr(lines, "BLOCK_BYTES", 300)
    monkeypatch.setattr(reading, "CHUNK_ROWS", chunk_rows)
    chunks = list(open_candidates(path, Roles()).chunks())
    lengths = [len(chunk.labels) for chunk in chunks]
    assert np.array_equal(np.concatenate([chunk.labels for chunk in chunks]), labels)
    assert np.array_equal(np.concatenate([chunk.scores for chunk in chunks]), scores)
    assert [chunk.first_row for chunk in chunks] == [0, *np.cumsum(lengths)[:-1]]
    assert set(lengths[:-1]) <= {chunk_rows}
    shares = [chunk.done for chunk in chunks]
    assert shares == sorted(shares)
    assert shares[0] > 0
    assert shares[-1] == 1
    assert len(chunks) == -(-500 // chunk_rows)


def test_row_groups_are_read_whole_or_in_batches_with_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels, scores, whole = made(5000, 3)
    path = tmp_path / "file"
    parquet.write_table(whole, path, row_group_size=3000)
    monkeypatch.setattr(parquet_file, "BATCH_BYTES", 1)
    for most, groups in ((1 << 28, 1), (1, 3)):
        monkeypatch.setattr(parquet_file, "GROUP_BYTES", most)
        monkeypatch.setattr(parquet_file, "MOST_BYTES", 1)
        candidates = open_candidates(path, Roles())
        assert len(candidates.groups()) == groups
        found = read(candidates)
        assert np.array_equal(found[0], labels)
        assert np.array_equal(np.array(found[1], np.float32), scores)


def test_groups_of_models_are_all_models_in_order(tmp_path: Path) -> None:
    for content in (CSV, JSON, table()):
        assert opened(tmp_path, content).groups() == (range(2),)


def test_columns_of_another_kind_further_down_are_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "BLOCK_BYTES", 64)
    rows = ["1,0.5,1", *["0,0.25,0"] * 40, *["1,NA,True"] * 40, *["0,1,0.75"] * 40]
    candidates = opened(tmp_path, "label,a,b\n" + "\n".join(rows))
    _, scores = read(candidates)
    assert [row[1] for row in scores] == [1.0] + [0.0] * 40 + [1.0] * 40 + [0.75] * 40
    assert candidates.faults == {"a": "no score in line 43 (40 rows cannot be used)"}
    objects = ['{"label": 1, "b": 1}'] * 40 + ['{"label": true, "b": "0.5"}'] * 40
    _, scores = read(opened(tmp_path, "\n".join([*objects, '{"label": "0", "b": false}'])))
    assert [row[0] for row in scores] == [1.0] * 40 + [0.5] * 40 + [0.0]


def test_leaving_off_in_the_middle_closes_the_file(tmp_path: Path) -> None:
    for content in (CSV, table()):
        candidates = opened(tmp_path, content)
        chunks = candidates.chunks()
        next(iter(chunks))
        chunks.close()  # type: ignore[attr-defined]  # a warning of an open file would be an error
        assert read(candidates) == (LABELS, SCORES)


CELLS = st.sampled_from(["x", 'a"b', "two\nlines", "a,b", "", "\n", '"', "\r\n", "é"])


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(notes=st.lists(CELLS, min_size=1, max_size=30), size=st.integers(1, 60))
def test_quoted_lines_are_never_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notes: list[str], size: int
) -> None:
    monkeypatch.setattr(lines, "BLOCK_BYTES", size)
    quoted = ['"' + note.replace('"', '""') + '"' for note in notes]
    rows = [f"{place % 2},{note},{place / 64}\n" for place, note in enumerate(quoted)]
    path = written(tmp_path, "label,note,a\n" + "".join(rows) + "1,x,7\n")
    candidates = open_candidates(path, Roles(models=("a",)))
    with pytest.raises(ContentsError) as error:
        read(candidates)
    line = 2 + "".join(rows).count("\n")
    assert f"'a': 7 in line {line}: expected a score" in str(error.value)
    written(tmp_path, "label,note,a\n" + "".join(rows))
    _, scores = read(open_candidates(path, Roles(models=("a",))))
    assert [row[0] for row in scores] == [place / 64 for place in range(len(notes))]
