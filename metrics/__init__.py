"""Numbers: additive facts in, metrics, comparisons and Prometheus families out."""
