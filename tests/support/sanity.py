"""What holds of every estimate, however extreme the counts are."""

import math

from metrics.uncertainty import Estimate, difference


def assert_sane(estimate: Estimate | None) -> None:
    """No number is infinite or not one, no variance negative, and no bound made from nothing."""
    if estimate is None:
        return
    assert math.isfinite(estimate.value)
    if estimate.variance is not None:
        assert math.isfinite(estimate.variance)
        assert estimate.variance >= 0
    apart = difference(estimate, Estimate(0.0, 0.0))
    assert apart is not None
    for bound in (apart.lower, apart.upper):
        assert bound is None or math.isfinite(bound)
    assert (apart.lower is None) == (not estimate.variance)
