"""The dashboard of one experiment: is the treatment hurting us, how sure are we, can the data be trusted. Pure."""

from board import Board, chosen, decided, noted, to_monitor
from experiment_labels import labels
from experiment_traffic import traffic
from experiment_verdict import money, verdict
from queries import EXPERIMENT


def experiment() -> Board:
    """The dashboard that the on-call engineer opens."""
    return Board(
        uid="abmonitor-experiment",
        title="abmonitor / Experiment",
        description=(
            "One experiment: is the treatment hurting us, how sure are we, and can the data be trusted."
        ),
        since="now-3h",
        variables=[
            chosen(
                "experiment",
                "Experiment",
                "Which experiment is shown.",
                "label_values(abmonitor_predictions_total, experiment)",
            ),
            chosen(
                "treatment",
                "Treatment",
                "Whose confidence bands and heatmap are drawn.",
                f"label_values(abmonitor_treatment_state{{{EXPERIMENT}}}, variant)",
            ),
            chosen(
                "variant",
                "Variants",
                "Which variants have lines.",
                f"label_values(abmonitor_predictions_total{{{EXPERIMENT}}}, variant)",
                several=True,
            ),
            chosen(
                "window",
                "Window",
                "How much time latencies and error rates are taken over.",
                f"label_values(abmonitor_window_predictions{{{EXPERIMENT}}}, window)",
                first="5m",
            ),
        ],
        annotations=[decided(EXPERIMENT), noted("experiment:$experiment")],
        links=[
            to_monitor("Runbooks", "/runbooks/", "doc"),
            to_monitor("Decisions", "/api/v1/decisions?experiment=${experiment:percentencode}"),
            to_monitor("All it knows", "/api/v1/experiments/${experiment:percentencode}"),
        ],
        rows=[verdict(), labels(), traffic(), money()],
    )
