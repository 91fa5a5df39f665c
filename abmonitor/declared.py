"""What was declared of an experiment, as plain data without secrets: what reports need of the settings. Pure."""

from typing import Any

import msgspec

from abmonitor.settings import ExperimentSettings
from metrics.experiment import Experiment


_SHOWN = (*Experiment.__struct_fields__, "testing", "hold")


def declared(experiment: ExperimentSettings) -> dict[str, Any]:
    """The settings by their names; durations in ms, moments in epoch ms.

    With `q` (unit profitability, null where none follows), the name of each guardrail, and of what is done
    on a breach only the action and whether it is a dry run: the rest says where orders go.
    """
    breach = experiment.on_breach
    return {
        **{name: _plain(getattr(experiment, name)) for name in _SHOWN},
        "q": experiment.q,
        "guardrails": [{"name": each.name, **_plain(each)} for each in experiment.guardrails],
        "on_breach": {"action": breach.action, "dry_run": breach.dry_run},
        "fingerprint": experiment.fingerprint,
    }


def _plain(found: object) -> Any:
    return msgspec.json.decode(msgspec.json.encode(found, enc_hook=_number))


def _number(found: object) -> int:
    """A duration or a moment as the whole number that it is; raises NotImplementedError for anything else."""
    if isinstance(found, int):
        return int(found)
    raise NotImplementedError(f"expected plain data, durations and moments, got {type(found)}")
