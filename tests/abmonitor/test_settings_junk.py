"""Whatever stands in a settings file, loading it gives settings or says what is wrong."""

import re
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from abmonitor.settings import Settings, SettingsError, load


KEYS = [
    *("experiments", "name", "control", "variants", "labels", "horizon", "cohort", "observed"),
    *("profitability", "q", "windows", "guardrails", "metric", "window", "max", "on_breach"),
    *("action", "url", "env", "sources", "fields", "type", "brake", "within", "a", "<<"),
]
JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["1h", "0s", "rap", "a", "webhook", "acted", "threshold"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=3), inner, max_size=6)
    ),
    max_leaves=30,
)

fixtures_are_fine = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


def as_yaml(data: object) -> str:
    """Flow-style YAML that, unlike a proper writer's, need not be right."""
    if isinstance(data, dict):
        return "{" + ", ".join(f"{key}: {as_yaml(value)}" for key, value in data.items()) + "}"
    if isinstance(data, list):
        return "[" + ", ".join(map(as_yaml, data)) + "]"
    return str(data)


def loads_or_tells(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        assert isinstance(load(path), Settings)
    except SettingsError as error:
        lines = str(error).splitlines()
        assert lines
        assert all(re.match(rf"{re.escape(str(path))}:\d+:\d+: .", line) for line in lines)


@fixtures_are_fine
@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_else(tmp_path: Path, content: bytes) -> None:
    loads_or_tells(tmp_path / "junk.yaml", content)


@fixtures_are_fine
@given(JUNK)
def test_random_data_raises_nothing_else(tmp_path: Path, data: object) -> None:
    loads_or_tells(tmp_path / "junk.yaml", as_yaml(data).encode(errors="replace"))


@fixtures_are_fine
@given(st.data())
def test_one_random_value_among_good_ones_raises_nothing_else(
    tmp_path: Path, sample: str, data: st.DataObject
) -> None:
    values = list(re.finditer(r"(?<=: )[^{\[,}\]\s]+|(?<=: )[{\[].*(?=\n)", sample))
    value = data.draw(st.sampled_from(values))
    junk = as_yaml(data.draw(JUNK))
    text = sample[: value.start()] + junk + sample[value.end() :]
    loads_or_tells(tmp_path / "junk.yaml", text.encode(errors="replace"))


@fixtures_are_fine
@given(st.data())
def test_settings_cut_short_or_garbled_raise_nothing_else(
    tmp_path: Path, sample: str, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(sample)))
    insert = data.draw(
        st.sampled_from(["", "\t", ":", "{", "]", "'", "&a ", "*a", "- ", "\n", "%"])
    )
    skip = data.draw(st.integers(0, 40))
    loads_or_tells(tmp_path / "junk.yaml", (sample[:at] + insert + sample[at + skip :]).encode())
