import os
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from abmonitor.ranking import write_settings
from abmonitor.ranking.write_settings import write_profitability
from abmonitor.ranking.yaml_edit import number
from abmonitor.settings import SettingsError, load


NEW = {"reference_precision": 0.0278565, "assumed_roi": 0.0}
FLOW = "{reference_precision: 0.0278565, assumed_roi: 0}"

HEAD = """\
# who may change this: "growth" team
deployment: 'prod'   # quotes stay
experiments:
"""
OFFER = """\
  - name: "offer"        # the first one
    control: old
    variants: {old: 0.5, new: 0.5}
    labels:
      horizon: 1h
      # grace: 5m
"""
OTHER = """\

  # the second one
  - control: a
    name: other
    variants: {a: 1, b: 1}
    labels: {horizon: 1d}
"""


def changed(tmp_path: Path, text: str, experiment: str | None = "offer") -> str:
    """What becomes of the text; also that the settings say it, and nothing else."""
    file = tmp_path / "settings.yaml"
    file.write_bytes(text.encode())
    told = write_profitability(file, experiment, NEW)
    assert str(file) in told
    assert FLOW in told
    found = {each.name: each for each in load(file).experiments}
    profitability = found[experiment or next(iter(found))].profitability
    assert profitability is not None
    assert profitability.reference_precision == NEW["reference_precision"]
    assert profitability.assumed_roi == NEW["assumed_roi"]
    assert profitability.q is None
    assert [each.name for each in tmp_path.iterdir()] == ["settings.yaml"]
    return file.read_bytes().decode()


def test_an_absent_one_comes_behind_the_other_keys(tmp_path: Path) -> None:
    found = changed(tmp_path, HEAD + OFFER + OTHER)
    assert found == HEAD + OFFER + f"    profitability: {FLOW}\n" + OTHER


def test_an_absent_one_of_the_last_experiment_comes_before_what_follows(tmp_path: Path) -> None:
    tail = "\n# redis is elsewhere\nredis: {env: REDIS}\n"
    found = changed(tmp_path, HEAD + OFFER + OTHER + tail, "other")
    assert found == HEAD + OFFER + OTHER + f"    profitability: {FLOW}\n" + tail


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("profitability: {q: 12}  # from finance\n", f"profitability: {FLOW}  # from finance\n"),
        ("profitability: { q: 12 }\n", f"profitability: {FLOW}\n"),
        ("profitability:\n      {q: 12}\n", f"profitability:\n      {FLOW}\n"),
        ("profitability:\n", f"profitability: {FLOW}\n"),
        ("profitability: # todo\n", f"profitability: {FLOW} # todo\n"),
        ("profitability: ~  # todo\n", f"profitability: {FLOW}  # todo\n"),
        ("profitability: null\n", f"profitability: {FLOW}\n"),
        ('"profitability": {q: 12}\n', f'"profitability": {FLOW}\n'),
        (
            "profitability:\n      q: 12  # from finance\n      # next\n",
            (
                "profitability:\n      reference_precision: 0.0278565\n      assumed_roi: 0"
                "  # from finance\n      # next\n"
            ),
        ),
        (
            "profitability:   # ours\n        unit_revenue: 10\n        unit_cost: 2\n\n",
            (
                "profitability:   # ours\n        reference_precision: 0.0278565\n"
                "        assumed_roi: 0\n\n"
            ),
        ),
        (
            (
                "profitability:\n      assumed_roi: 0.25  # guess\n      # measured\n"
                "      reference_precision:  0.5\n"
            ),
            (
                "profitability:\n      assumed_roi: 0  # guess\n      # measured\n"
                "      reference_precision:  0.0278565\n"
            ),
        ),
        (
            "profitability: {assumed_roi: 0.25,reference_precision: .5}\n",
            "profitability: {assumed_roi: 0,reference_precision: 0.0278565}\n",
        ),
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_one_that_is_there_is_replaced_in_its_own_style(
    tmp_path: Path, before: str, after: str, line_end: str
) -> None:
    rest = "    slo_ms: 100  # later\n"
    text = f"{HEAD}{OFFER}    {before}{rest}{OTHER}".replace("\n", line_end)
    found = changed(tmp_path, text)
    assert found == f"{HEAD}{OFFER}    {after}{rest}{OTHER}".replace("\n", line_end)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        # No line end at the end of the file.
        (
            "experiments:\n- {{name: offer, {rest}}}",
            "experiments:\n- {{name: offer, {rest}, profitability: {flow}}}",
        ),
        (
            (
                "experiments:\n- name: offer\n  control: a\n  variants: {{a: 1, b: 1}}\n"
                "  labels: {{horizon: 1h}} # end"
            ),
            (
                "experiments:\n- name: offer\n  control: a\n  variants: {{a: 1, b: 1}}\n"
                "  labels: {{horizon: 1h}} # end\n  profitability: {flow}"
            ),
        ),
        # JSON is YAML, too.
        (
            '{{"experiments": [{{"name": "offer",\n {json}\n}}]}}\n',
            (
                '{{"experiments": [{{"name": "offer",\n {json}, "profitability": '
                '{{"reference_precision": 0.0278565, "assumed_roi": 0}}\n}}]}}\n'
            ),
        ),
        # A trailing comma, and a comment.
        (
            "experiments: [{{name: offer, {rest}, # all\n}}]\n",
            "experiments: [{{name: offer, {rest}, profitability: {flow}, # all\n}}]\n",
        ),
        # Text of several lines, and an item that begins in the next line.
        (
            (
                "experiments:\n  -\n       name: offer\n       {lines}"
                "       hold:\n         silence: 1h\n\nbrake: {{rollbacks: 2}}\n"
            ),
            (
                "experiments:\n  -\n       name: offer\n       {lines}"
                "       hold:\n         silence: 1h\n       profitability: {flow}\n\n"
                "brake: {{rollbacks: 2}}\n"
            ),
        ),
        # The byte order mark of some editors, and a document of its own.
        (
            "\ufeff---\nexperiments:\n- name: offer\n  {rest_lines}...\n",
            "\ufeff---\nexperiments:\n- name: offer\n  {rest_lines}  profitability: {flow}\n...\n",
        ),
    ],
)
def test_every_way_to_write_an_experiment_takes_it(tmp_path: Path, before: str, after: str) -> None:
    lines = ("control: a", "variants: {a: 1, b: 1}", "labels: {horizon: 1h}")
    parts = {
        "rest": ", ".join(lines),
        "json": '"control": "a", "variants": {"a": 1, "b": 1}, "labels": {"horizon": "1h"}',
        "lines": "\n       ".join(lines) + "\n",
        "rest_lines": "\n  ".join(lines) + "\n",
        "flow": FLOW,
    }
    assert changed(tmp_path, before.format(**parts)) == after.format(**parts)


def test_a_name_is_not_needed_where_there_is_one_experiment(tmp_path: Path) -> None:
    assert changed(tmp_path, HEAD + OFFER, None).startswith(HEAD + OFFER)


@pytest.mark.parametrize(
    ("experiment", "message"),
    [
        (None, "expected the name of one of several experiments: offer, other"),
        ("offr", "no experiment is called 'offr'; expected one of: offer, other"),
    ],
)
def test_an_experiment_that_is_not_there_or_not_named_is_an_error_with_all_names(
    tmp_path: Path, experiment: str | None, message: str
) -> None:
    refused(tmp_path, HEAD + OFFER + OTHER, message, experiment=experiment)


def refused(
    tmp_path: Path,
    text: str,
    message: str,
    *,
    experiment: str | None = "offer",
    error: type[Exception] = ValueError,
    values: Mapping[str, float] = NEW,
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    with pytest.raises(error, match=message):
        write_profitability(file, experiment, values)
    assert file.read_text() == text
    assert [each.name for each in tmp_path.iterdir()] == ["settings.yaml"]


BODY = "control: a, variants: {a: 1, b: 1}, labels: {horizon: 1h}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            f"experiments:\n- &base {{name: offer, {BODY}}}\n- {{<<: *base, name: other}}\n",
            "experiment 'offer': line 2: &base gives this a name",
        ),
        (
            f"experiments:\n- &base {{name: other, {BODY}}}\n- {{<<: *base, name: offer}}\n",
            "line 3: an experiment that merges others",
        ),
        (
            (
                f"experiments:\n- {{name: other, {BODY}, profitability: &p {{q: 2}}}}\n"
                f"- {{name: offer, {BODY}, profitability: *p}}\n"
            ),
            r"line 3: profitability is written elsewhere, as what \*p stands for",
        ),
        (
            (
                f"experiments:\n- {{name: offer, {BODY}, profitability: &p {{q: 2}}}}\n"
                f"- {{name: other, {BODY}, profitability: *p}}\n"
            ),
            "line 2: profitability has an anchor, &p",
        ),
        (
            (
                f"experiments:\n- {{name: offer, {BODY}, profitability: {{q: &n 2}}}}\n"
                f"- {{name: other, {BODY}, profitability: {{q: *n}}}}\n"
            ),
            "line 2: profitability has an anchor, &n",
        ),
        (
            (
                f"experiments:\n- {{name: other, {BODY}, profitability: {{q: &n 2}}}}\n"
                f"- {{name: offer, {BODY}, profitability: {{q: *n}}}}\n"
            ),
            r"line 3: profitability is written elsewhere, as what \*n stands for",
        ),
        (
            f"experiments: &all\n- {{name: offer, {BODY}}}\n",
            "&all gives this a name",
        ),
    ],
)
def test_anchors_and_aliases_in_the_way_are_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    refused(tmp_path, text, message + ".*by hand")


def test_anchors_and_aliases_elsewhere_do_not_matter(tmp_path: Path) -> None:
    text = (
        "experiments:\n- name: other\n  control: a\n  variants: {a: 1, b: 1}\n"
        "  labels: &labels {horizon: 1h}\n"
        "- name: offer\n  control: a\n  variants: {a: 1, b: 1}\n  labels: *labels  # shared\n"
    )
    assert changed(tmp_path, text) == text + f"  profitability: {FLOW}\n"


def test_settings_that_would_be_wrong_are_not_written(tmp_path: Path) -> None:
    text = HEAD + OFFER + "    nonsense: 1\n"
    refused(tmp_path, text, r"settings\.yaml:\d+:\d+: .*nonsense", error=SettingsError)


def test_what_is_no_yaml_is_not_written(tmp_path: Path) -> None:
    refused(tmp_path, "experiments: [", r"settings\.yaml:1:\d+: ", error=SettingsError)


def test_settings_that_only_lack_profitability_become_right(tmp_path: Path) -> None:
    text = HEAD + OFFER + "    guardrails: [{metric: rap, test: sequential, margin: 0.1}]\n"
    (tmp_path / "before.yaml").write_text(text)
    with pytest.raises(SettingsError, match="profitability"):
        load(tmp_path / "before.yaml")
    (tmp_path / "before.yaml").unlink()
    assert changed(tmp_path, text) == text + f"    profitability: {FLOW}\n"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"q": 1.0}, "q must be above 1"),
        ({"reference_precision": 0.5}, "expected exactly one of"),
        ({"reference_precision": 1.5, "assumed_roi": 0.0}, "reference_precision"),
        ({"price": 1.0}, "price"),
        ({"q": float("inf")}, "got inf"),
    ],
)
def test_numbers_that_allow_no_q_are_not_written(
    tmp_path: Path, values: dict[str, float], message: str
) -> None:
    refused(tmp_path, HEAD + OFFER, f"^profitability: .*{message}", values=values)


def test_in_a_folder_the_file_with_the_experiment_is_changed(tmp_path: Path) -> None:
    folder = tmp_path / "conf"
    folder.mkdir()
    (folder / "10-base.yaml").write_text("deployment: prod\n")
    (folder / "20-offer.yaml").write_text("experiments:\n" + OFFER)
    (folder / "30-other.yml").write_text("experiments:\n" + OTHER)
    (folder / "notes.txt").write_text("experiments: none\n")
    before = {each.name: each.read_text() for each in folder.iterdir()}
    told = write_profitability(folder, "other", NEW)
    assert "30-other.yml: experiment 'other' now has" in told
    after = {each.name: each.read_text() for each in folder.iterdir()}
    assert after.pop("30-other.yml") == f"experiments:\n{OTHER}    profitability: {FLOW}\n"
    del before["30-other.yml"]
    assert after == before
    assert load(folder).experiments[1].q == pytest.approx(1 / 0.0278565)


def test_a_mistake_in_another_file_of_the_folder_is_named_where_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "conf"
    folder.mkdir()
    (folder / "a.yaml").write_text("experiments:\n" + OFFER)
    (folder / "b.yaml").write_text("deploiment: prod\n")
    with pytest.raises(SettingsError) as caught:
        write_profitability(folder, None, NEW)
    assert str(caught.value).startswith(f"{folder / 'b.yaml'}:1:1: ")
    assert (folder / "a.yaml").read_text() == "experiments:\n" + OFFER


def test_an_experiment_that_two_files_have_is_an_error(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("experiments:\n" + OFFER)
    with pytest.raises(ValueError, match="expected one experiment called 'offer', got 2"):
        write_profitability(tmp_path, "offer", NEW)


def test_symbolic_links_and_rights_stay(tmp_path: Path) -> None:
    real = tmp_path / "real" / "settings-v1.yaml"
    real.parent.mkdir()
    real.write_text(HEAD + OFFER)
    real.chmod(0o640)
    link = tmp_path / "settings.yaml"
    link.symlink_to(Path("real") / "settings-v1.yaml")
    write_profitability(link, None, NEW)
    assert link.is_symlink()
    assert link.readlink() == Path("real") / "settings-v1.yaml"
    assert FLOW in real.read_text()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert [each.name for each in real.parent.iterdir()] == ["settings-v1.yaml"]


def test_the_same_again_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(HEAD + OFFER)
    assert " now has " in write_profitability(file, None, NEW)
    before = file.stat()
    assert write_profitability(file, None, NEW).endswith(f"profitability: {FLOW} already")
    assert file.stat() == before


def test_what_was_there_is_told(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(HEAD + OFFER + "    profitability: {q: 12.5}\n")
    assert write_profitability(file, None, NEW).endswith(
        f"experiment 'offer' now has profitability: {FLOW} (was {{q: 12.5}})"
    )


def test_a_file_that_somebody_else_changes_meanwhile_stays_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(HEAD + OFFER)

    def meanwhile(_: Path) -> None:
        file.write_text("theirs")

    monkeypatch.setattr(write_settings, "load", meanwhile)
    with pytest.raises(OSError, match="somebody else changed it"):
        write_profitability(file, None, NEW)
    assert file.read_text() == "theirs"


def test_a_disk_that_is_full_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(HEAD + OFFER)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_profitability(file, None, NEW)
    assert file.read_text() == HEAD + OFFER
    assert [each.name for each in tmp_path.iterdir()] == ["settings.yaml"]


def test_a_file_that_is_read_only_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(HEAD + OFFER)
    monkeypatch.setattr(os, "access", lambda path, mode: (Path(path), mode) != (file, os.W_OK))
    with pytest.raises(PermissionError, match="it is read-only"):
        write_profitability(file, None, NEW)
    assert file.read_text() == HEAD + OFFER


@given(st.floats(min_value=1e-300, max_value=1e300))
def test_every_reader_takes_a_number_for_the_same_number(value: float) -> None:
    assert yaml.safe_load(f"q: {number(value)}") == {"q": value}
