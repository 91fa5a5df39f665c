"""What the tests of the settings share."""

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest


SAMPLE = """\
experiments:
  - name: offer-recommender
    control: rules-v1
    variants: {rules-v1: 0.5, ranker-v2: 0.5}            # intended split
    randomised_by: unit                                  # or request
    labels: {observed: all, horizon: 1h, grace: 5m, when_missing: negative}   # or exclude
    profitability: {reference_precision: 0.0278565, assumed_roi: 0.0}
    business_value: {per_accuracy_point_pct: 0.5, per_latency_ms_pct: -0.1, per_error_point_pct: -10}
    guardrails:
      - {metric: rap, test: sequential, margin: 0.02}
      - {metric: latency_p99_ms, window: 5m, max: 250, consecutive: 3}
      - {metric: error_rate, test: sequential, relative_margin: 0.2}
    on_breach: {action: webhook, url: {env: ROLLBACK_URL}}
"""

Write = Callable[..., Path]
"""Writes settings and says where."""


@pytest.fixture
def sample() -> str:
    """The settings that the design shows."""
    return SAMPLE


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A function that writes a file below a folder of its own."""

    def to_file(text: str | bytes, name: str = "settings.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        content = text if isinstance(text, bytes) else textwrap.dedent(text).encode()
        path.write_bytes(content)
        return path

    return to_file
