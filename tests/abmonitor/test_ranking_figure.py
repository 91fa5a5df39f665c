import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import image

from abmonitor.ranking import figure
from abmonitor.ranking.assumed import assumed
from abmonitor.ranking.figure import draw
from abmonitor.ranking.figure_names import NAMED
from abmonitor.ranking.labels import fitted, shortened, spread, wrapped
from abmonitor.ranking.sensitivity import Sensitivity, sensitivity
from metrics.candidates import Counts


TEXT = "{http://www.w3.org/2000/svg}text"
POSITIVES, NEGATIVES = 2652, 20098


def arc(names: tuple[str, ...], roi: str = "0", **more: str) -> Sensitivity:
    """Models on a curve of a good ranking, so that many are best somewhere."""
    fp = np.round(np.linspace(50, 9000, len(names)))
    tp = np.round(POSITIVES * (fp / NEGATIVES) ** 0.3)
    counts = Counts(tp, fp, float(POSITIVES), float(NEGATIVES), names)
    told = more or {"reference_precision": "11.7%", "assumed_roi": roi}
    return sensitivity(counts, assumed(**told))


def crowd(models: int) -> Sensitivity:
    generator = np.random.default_rng(models)
    fp = np.round(generator.uniform(10, 9000, models))
    tp = np.round(POSITIVES * (fp / NEGATIVES) ** generator.uniform(0.3, 1, models))
    names = tuple(f"model-{place}" for place in range(models))
    counts = Counts(tp, fp, float(POSITIVES), float(NEGATIVES), names)
    return sensitivity(counts, assumed(reference_precision="11.7%", assumed_roi="5%..30%"))


def texts_of(path: Path) -> list[str]:
    # A text of several lines is several texts in SVG.
    return ["".join(each.itertext()) for each in ET.parse(path).iter(TEXT)]


def boxes(found: Sensitivity) -> Iterator[tuple[str, tuple[float, float, float, float]]]:
    """The texts of the picture with their boxes in pixels, and the paper's."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(figure._STYLE)
        drawn, used = figure._figure(found)
        drawn.canvas.draw()
        dpi = drawn.dpi
        yield "", (used.x0 * dpi, used.y0 * dpi, used.x1 * dpi, used.y1 * dpi)
        low, high = drawn.axes[0].get_ylim()
        ticks = zip(drawn.axes[0].get_yticks(), drawn.axes[0].get_yticklabels(), strict=True)
        outside = [label for at, label in ticks if not low <= at <= high]  # never drawn
        for text in drawn.findobj(mpl.text.Text):
            if text.get_text().strip() and text.get_visible() and text not in outside:
                box = text.get_window_extent()
                yield text.get_text(), (box.x0, box.y0, box.x1, box.y1)


LONG = tuple(
    f"gradient_boosting__depth={place:02}__learning_rate=0.05__n_trees=300" for place in range(12)
)
SCENES = {
    "one model": lambda: arc(("only",)),
    "two models": lambda: arc(("a", "b")),
    "names of sixty characters": lambda: arc(LONG),
    "wide letters": lambda: arc(tuple("W" * 58 + f"{place:02}" for place in range(12))),
    "many best": lambda: arc(tuple(f"m{place}" for place in range(200))),
    "over q": lambda: arc(tuple(f"m{place}" for place in range(50)), q=">=10"),
    "clipped": lambda: arc(
        tuple(f"m{place}" for place in range(9)), reference_precision="80%", assumed_roi="50%"
    ),
    "a range": lambda: arc(LONG[:6], "-30%..-25%"),
    "at the edge": lambda: arc(LONG[:6], "100%"),
    "hundreds": lambda: crowd(300),
}


@pytest.mark.parametrize("scene", SCENES)
def test_no_text_covers_another_or_leaves_the_paper(scene: str) -> None:
    (_, paper), *found = boxes(SCENES[scene]())
    assert len(found) > 10
    for text, (x0, y0, x1, y1) in found:
        assert x0 >= paper[0] - 1, text
        assert y0 >= paper[1] - 1, text
        assert x1 <= paper[2] + 1, text
        assert y1 <= paper[3] + 1, text
    for place, (text, one) in enumerate(found):
        for other_text, other in found[place + 1 :]:
            apart = (
                one[2] <= other[0] + 1
                or other[2] <= one[0] + 1
                or one[3] <= other[1] + 1
                or other[3] <= one[1] + 1
            )
            assert apart, (text, other_text)


@pytest.mark.parametrize("suffix", ["png", "svg", "PNG"])
def test_the_same_input_gives_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    first, second = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    draw(crowd(150), first)
    draw(crowd(150), second)
    assert first.read_bytes() == second.read_bytes()


def test_nothing_of_a_style_comes_in_or_stays_behind(tmp_path: Path) -> None:
    first, second = tmp_path / "a.svg", tmp_path / "b.svg"
    draw(arc(LONG), first)
    with mpl.rc_context({"font.size": 40, "axes.facecolor": "red", "text.parse_math": True}):
        before = dict(mpl.rcParams)
        draw(arc(LONG), second)
        assert dict(mpl.rcParams) == before
    assert first.read_bytes() == second.read_bytes()


def test_a_png_is_twice_as_wide_as_a_page_shows_it(tmp_path: Path) -> None:
    draw(arc(LONG), tmp_path / "a.png")
    height, width = image.imread(tmp_path / "a.png").shape[:2]
    assert width == 2400
    assert 1100 < height < 1500


def test_text_of_an_svg_is_text_and_has_no_date(tmp_path: Path) -> None:
    draw(arc(("slow", "quick")), tmp_path / "a.svg")
    texts = texts_of(tmp_path / "a.svg")
    assert {"slow", "quick", "always", "never", "RAP %", "assumed 0 %"} <= set(texts)
    assert any("is best at the assumed ROI of" in text for text in texts)
    assert not re.search("<dc:date>|matplotlib.org|20[0-9][0-9]-", (tmp_path / "a.svg").read_text())


def test_rap_is_in_per_cent_on_its_axis() -> None:
    found = arc(("slow", "quick"))
    with mpl.rc_context():
        axes = figure._figure(found)[0].axes[0]
        ticks = [(float(at), axes.yaxis.get_major_formatter()(at, 0)) for at in axes.get_yticks()]
    assert len(ticks) > 3
    for at, text in ticks:
        assert float(text.replace("\N{MINUS SIGN}", "-")) == pytest.approx(100 * at)
        assert len(text) <= 4
    assert any(text.startswith("\N{MINUS SIGN}") for _, text in ticks)


@pytest.mark.parametrize(
    "name",
    ["a_$b$_c", r"$\frac{1}{0}$", "$", "_hidden", "x^2_{3}$", "<b>&amp;", "100 % $", "\\alpha"],
)
def test_names_are_never_taken_for_formulas(tmp_path: Path, name: str) -> None:
    draw(arc((name, "other")), tmp_path / "a.svg")
    draw(arc((name, "other")), tmp_path / "a.png")
    assert name in texts_of(tmp_path / "a.svg")


def test_names_that_no_font_or_xml_has_are_drawn_without_warnings(tmp_path: Path) -> None:
    found = arc(("emoji \N{ROCKET}", "a\x00b\x1bc\ud800", "two\nlines\tand tabs"))
    draw(found, tmp_path / "a.png")
    draw(found, tmp_path / "a.svg")
    texts = texts_of(tmp_path / "a.svg")
    assert "emoji \N{ROCKET}" in texts
    assert "a·b·c·" in texts
    assert "two lines and tabs" in texts


def test_each_stretch_has_its_name_and_its_exact_ends(tmp_path: Path) -> None:
    found = arc(("a", "b", "c"))
    draw(found, tmp_path / "a.svg")
    texts = [each.replace("\N{NO-BREAK SPACE}", " ") for each in texts_of(tmp_path / "a.svg")]
    for each in found.shown:
        low, high = found.where(each.low), found.where(each.high)
        if low is not None and high is not None:
            told = f"{low * 100:+.1f} % to {high * 100:+.1f} %".replace("-", "\N{MINUS SIGN}")
            assert told in texts
        assert texts.count(found.counts.models[each.places[0]]) == 2  # beside its line, and below


def test_only_so_many_lines_have_a_name_and_the_rest_is_counted(tmp_path: Path) -> None:
    found = arc(tuple(f"m{place}" for place in range(200)))
    assert len(found.shown) > NAMED + 1
    draw(found, tmp_path / "a.svg")
    texts = texts_of(tmp_path / "a.svg")
    named = {text for text in texts if re.fullmatch(r"m\d+", text)}
    assert len(named) == NAMED
    rest = sum(1 for each in found.shown if max(each.places) < found.models) - NAMED
    assert f"{rest} narrower stretches in grey have no name here." in texts
    best = found.counts.models[found.at_assumed[0].places[0]]
    assert best in named


def test_a_stretch_of_a_thousandth_of_the_axis_can_be_seen(tmp_path: Path) -> None:
    # The middle one is best from +10 % to about +10.1 %.
    p0, n = 0.05, 1e9
    k = [p0 / (1 + h - p0) for h in (0.1, 0.101)]
    fp = np.array([0.4, 0.6, 0.8]) * n
    tp = np.round(0.6 * n + np.array([0, 0.2 * k[0], 0.2 * (k[0] + k[1])]) * n)
    counts = Counts(tp, fp, n, 20 * n, ("cheap", "thin", "wide"))
    found = sensitivity(counts, assumed(reference_precision="5%", assumed_roi="0"))
    assert [found.counts.models[each.places[0]] for each in found.shown] == [
        "cheap",
        "thin",
        "wide",
    ]
    draw(found, tmp_path / "a.png")
    draw(found, tmp_path / "a.svg")
    assert texts_of(tmp_path / "a.svg").count("thin") == 2
    pixels = np.round(image.imread(tmp_path / "a.png")[:, :, :3] * 255).astype(int)
    vermillion = (np.abs(pixels - [0xD5, 0x5E, 0x00]) <= 8).all(axis=2)
    height = vermillion.shape[0]
    below_axis = vermillion[int(height * 0.78) :]  # where only the band is, and its leads
    tall = below_axis[:, 300:1700].sum(axis=0)
    assert tall.max() >= 40
    assert 1 <= (tall >= 40).sum() <= 8


@pytest.mark.parametrize("name", ["a.pdf", "a", "png", "a.png.gz"])
def test_other_kinds_of_files_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"to end in \.png or \.svg, got "):
        draw(arc(("a",)), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        draw(arc(("a",)), tmp_path / "no" / "a.svg")


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(0.1, 9)), min_size=1, max_size=10),
)
def test_labels_move_apart_as_little_as_they_must(pairs: list[tuple[float, float]]) -> None:
    wanted = sorted(at for at, _ in pairs)
    sizes = [size for _, size in pairs]
    found = spread(wanted, sizes, 0.0, 100.0)
    for place in range(1, len(found)):
        room = (sizes[place - 1] + sizes[place]) / 2
        assert found[place] - found[place - 1] >= room - 1e-9
    assert found[0] - sizes[0] / 2 >= -1e-9
    assert found[-1] + sizes[-1] / 2 <= 100 + 1e-9
    alone = len(wanted) == 1 and sizes[0] / 2 <= wanted[0] <= 100 - sizes[0] / 2
    assert not alone or found == pytest.approx(wanted)


@given(st.text(min_size=1, max_size=90), st.integers(1, 40), st.integers(1, 4))
def test_wrapped_names_keep_to_their_room(name: str, width: int, rows: int) -> None:
    lines = wrapped(name, width, rows)
    assert len(lines) <= rows
    assert all(len(line) <= width for line in lines)


def test_a_name_that_is_too_long_keeps_both_ends() -> None:
    assert shortened("gradient-boosting-seed-17", 12) == "gradie…ed-17"
    assert wrapped("a" * 50 + "-" + "b" * 50, 10, 2) == ["a" * 10, "…" + "b" * 9]
    assert wrapped("rate=0.05_depth=6", 12, 2) == ["rate=0.05_", "depth=6"]


def test_a_name_takes_no_more_room_than_there_is() -> None:
    drawn = mpl.figure.Figure(figsize=(12, 7))
    for name in ("W" * 60, "i" * 60, "gradient_boosting_depth=6"):
        text = fitted(drawn, name, 0.1, 3, size=10)
        box = drawn.text(0, 0, text, size=10).get_window_extent()
        assert box.width <= 0.1 * drawn.bbox.width
        assert text.count("\n") <= 2
