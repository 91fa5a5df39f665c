import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from alerts.tables import (
    pack,
    pack_facts,
    pack_times,
    unpack,
    unpack_facts,
    unpack_times,
)
from metrics.facts import COLUMNS, Facts


whole = st.integers(-(2**53), 2**53).map(float)


@given(hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, min_side=0), elements=whole))
def test_a_table_comes_back_as_it_was(table: np.ndarray) -> None:
    assert np.array_equal(unpack(pack(table)), table)


@pytest.mark.parametrize("most", [127.0, 128.0, 32_768.0, 2.0**31, 2.0**62, 2.0**64, 1e30])
def test_numbers_of_any_size_come_back(most: float) -> None:
    table = np.array([[0.0, most], [1.0, -most]])
    assert np.array_equal(unpack(pack(table)), table)


@given(st.lists(st.integers(0, 2**45), min_size=1, max_size=30))
def test_times_come_back(times: list[int]) -> None:
    assert unpack_times(pack_times(np.array(sorted(times)))).tolist() == sorted(times)


@given(st.integers(0, 20), st.integers(0, 10**12), st.booleans())
def test_facts_come_back_with_and_without_weights(rows: int, most: int, weighted: bool) -> None:
    rng = np.random.default_rng(rows)
    sums = rng.integers(0, most + 1, (rows, len(COLUMNS))).astype(np.float64)
    if not weighted:
        for at, name in enumerate(COLUMNS):
            cell, _, fact = name.partition(".")
            if fact in {"w", "w2"}:
                unit = {"w": 1_000, "w2": 1_000_000}[fact]
                sums[:, at] = unit * sums[:, COLUMNS.index(f"{cell}.n")]
    assert np.array_equal(unpack_facts(pack_facts(Facts(sums))).sums, sums)


def test_sums_of_weights_take_no_room_where_nothing_is_weighted() -> None:
    n = np.zeros((100, len(COLUMNS)))
    n[:, COLUMNS.index("tp.n")] = 50_000
    unweighted = n.copy()
    unweighted[:, COLUMNS.index("tp.w")] = 50_000_000
    unweighted[:, COLUMNS.index("tp.w2")] = 50_000_000_000
    assert len(pack_facts(Facts(unweighted))) == len(pack(n)) + 1


@pytest.mark.parametrize("cut", [0, 3, 7, -1])
def test_a_table_that_was_cut_is_refused(cut: int) -> None:
    packed = pack(np.ones((3, 2)))
    with pytest.raises(ValueError, match="a table of"):
        unpack(packed[:cut])


def test_a_table_of_other_columns_holds_no_facts() -> None:
    with pytest.raises(ValueError, match=f"facts have 2 columns, expected {len(COLUMNS)}"):
        unpack_facts(b"\x00" + pack(np.ones((3, 2))))
