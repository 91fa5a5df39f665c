"""What the decisions are worth, by simulation: false rollbacks, delays and promotions, beside others.

Run: `python benchmarks/operating_characteristics.py` (about twenty minutes on one core, ten of them for the
nulls alone; needs matplotlib for the figures, which are left out without it). `--quick` takes about a
minute, says little, and writes to the temporary folder; `--only NAME` runs some of the studies and keeps
the numbers of the others. Everything random has a fixed seed.
"""

import argparse
import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path


ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from characteristics import delays, labels, nulls, promotion, shares  # noqa: E402  # only now found
from characteristics.runs import Effort, Row  # noqa: E402
from characteristics.tables import TABLES  # noqa: E402


RESULTS = ROOT / "benchmarks" / "results" / "operating_characteristics.json"
FIGURES = ROOT / "docs" / "figures"
QUICK = 40
"""Times less."""


def false_rollbacks(effort: Effort) -> Iterable[Row]:
    for world in nulls.worlds(effort):
        yield from nulls.false_rollbacks(world, effort)


def rivals(effort: Effort) -> Iterable[Row]:
    for world in nulls.worlds(effort):
        if world.name in ("reference", "50/50"):
            yield from nulls.rivals_false_rollbacks(world, effort)


STUDIES: dict[str, Callable[[Effort], Iterable[Row]]] = {
    "nulls": false_rollbacks,
    "rivals": rivals,
    "delays": delays.delays,
    "promotion": promotion.promotions,
    "rates": shares.rate_rows,
    "sample_ratio": shares.sample_ratio_rows,
    "labels": labels.label_rows,
}


def main() -> None:
    options = _arguments()
    effort = Effort().fewer(QUICK) if options.quick else Effort()
    folder = Path(tempfile.gettempdir()) / "operating_characteristics"
    path = options.json or (folder / RESULTS.name if options.quick else RESULTS)
    figures = options.figures or (folder if options.quick else FIGURES)
    path.parent.mkdir(parents=True, exist_ok=True)
    results = json.loads(path.read_text()) if options.only and path.exists() else {}
    for name in options.only or STUDIES:
        begun = time.monotonic()
        results[name] = list(STUDIES[name](effort))
        print(f"{name}: {time.monotonic() - begun:.0f} s", file=sys.stderr)
        path.write_text(json.dumps(_rounded(results), indent=1) + "\n")
    for name, (title, table) in TABLES.items():
        if name in results:
            print(f"\n### {title}\n\n{table(results[name])}")
    if importlib.util.find_spec("matplotlib") is None:
        print("matplotlib is not installed: no figures", file=sys.stderr)
    else:
        from characteristics.figures import draw_all  # noqa: PLC0415  # needs matplotlib

        for drawn in draw_all(results, figures):
            print(f"{drawn}: {drawn.stat().st_size / 1000:.0f} kB", file=sys.stderr)


def _rounded(value: object) -> object:
    """Four digits after the point say all that 4,000 experiments can."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    return value


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} times fewer experiments")
    parser.add_argument(
        "--only", action="append", choices=STUDIES, metavar="NAME", help=f"of {', '.join(STUDIES)}"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="for all numbers")
    parser.add_argument("--figures", type=Path, metavar="FOLDER", help="for PNG files")
    return parser.parse_args()


if __name__ == "__main__":
    main()
