"""How things look on the dashboards: colours, lines, thresholds, and words in place of numbers. Pure."""

from collections.abc import Mapping, Sequence

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import dashboard as models

from alerts.judge import Phase
from alerts.standing import SEVERITY, State
from stream.intake import IntakeState


# Blue and orange are told apart by people who cannot tell red from green, on dark and on light ground.
CONTROL = "#5794F2"
TREATMENT = "#FF9830"
HARM = "#F2495C"
GOOD = "#56A64B"
WARNING = "#F2CC0C"
NEUTRAL = "#8E8E8E"
PURPLE = "#B877D9"
TEAL = "#37B5B6"

STATES: Mapping[State, int] = {state: code for code, state in enumerate(reversed(SEVERITY), 1)}
"""States as numbers, the worst highest: where two monitors differ for a moment the worse one shows."""
PHASES: Mapping[Phase, int] = {
    phase: code
    for code, phase in enumerate((Phase.PASS, Phase.INCONCLUSIVE, Phase.ERROR, Phase.FAIL), 21)
}
"""Phases of guardrails, in numbers of their own: both stand in one panel."""
HELD = 31
KNOWN = -1e9
"""A step of colours from which on something is known: what is not is never green."""
INTAKES: Mapping[IntakeState, int] = {state: code for code, state in enumerate(IntakeState, 1)}

STATE_COLOURS = {
    State.COLLECTING: CONTROL,
    State.HOLD: PURPLE,
    State.HEALTHY: GOOD,
    State.SUSPECT: WARNING,
    State.PASSED: TEAL,
    State.ROLLING_BACK: TREATMENT,
    State.VERIFYING: TREATMENT,
    State.ROLLED_BACK: HARM,
    State.ROLLBACK_FAILED: "#AD0317",
    State.WOULD_ROLL_BACK: HARM,
    State.ENDED: NEUTRAL,
}
_PHASE_COLOURS = {
    Phase.PASS: GOOD,
    Phase.INCONCLUSIVE: NEUTRAL,
    Phase.ERROR: PURPLE,
    Phase.FAIL: HARM,
}


def thresholds(*steps: tuple[float | None, str]) -> builders.ThresholdsConfig:
    """Colours from values on; the first has None, which is where there is no bound below."""
    return (
        builders.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps([models.Threshold(value=value, color=colour) for value, colour in steps])
    )


def words(table: Mapping[int, tuple[str, str]]) -> list[models.ValueMapping]:
    """Text and colour in place of numbers."""
    return [
        models.ValueMap(
            {
                str(code): models.ValueMappingResult(text=text, color=colour, index=index)
                for index, (code, (text, colour)) in enumerate(table.items())
            }
        )
    ]


def state_words() -> list[models.ValueMapping]:
    """The states of treatments."""
    return words({code: (_text(state), STATE_COLOURS[state]) for state, code in STATES.items()})


def history_words() -> list[models.ValueMapping]:
    """States, phases and causes to hold: all that a treatment's history tells."""
    states = {code: (_text(state), STATE_COLOURS[state]) for state, code in STATES.items()}
    phases = {code: (_text(phase), _PHASE_COLOURS[phase]) for phase, code in PHASES.items()}
    return words({**states, **phases, HELD: ("held", PURPLE)})


def intake_words() -> list[models.ValueMapping]:
    """What the intakes of partitions do."""
    colours = {IntakeState.RUNNING: GOOD, IntakeState.STARTING: CONTROL}
    return words(
        {code: (_text(state), colours.get(state, HARM)) for state, code in INTAKES.items()}
    )


def _text(state: str) -> str:
    return str(state).replace("_", " ")


def absent(text: str) -> models.SpecialValueMap:
    """A word for cells without a value."""
    return models.SpecialValueMap(
        models.DashboardSpecialValueMapOptions(
            match=models.SpecialValueMatch.NULL_AND_NAN,
            result=models.ValueMappingResult(text=text),
        )
    )


def properties(**given: object) -> list[models.DynamicConfigValue]:
    """Properties of an override; `custom__lineWidth` is written `custom.lineWidth`."""
    return [
        models.DynamicConfigValue(id_val=name.replace("__", "."), value=value)
        for name, value in given.items()
    ]


def colour(name: str) -> dict[str, str]:
    """One fixed colour."""
    return {"mode": "fixed", "fixedColor": name}


def shades(name: str) -> dict[str, str]:
    """Shades of a colour, for several treatments."""
    return {"mode": "shades", "fixedColor": name}


def dashes(*lengths: int) -> dict[str, object]:
    """A dashed line."""
    return {"fill": "dash", "dash": list(lengths)}


def limit_line(name: str = HARM) -> list[models.DynamicConfigValue]:
    """A dashed line that stands for a limit."""
    return properties(
        color=colour(name),
        custom__lineStyle=dashes(10, 8),
        custom__lineWidth=2,
        custom__fillOpacity=0,
    )


def cell(width: int | None = None, **given: object) -> list[models.DynamicConfigValue]:
    """How a column of a table looks."""
    sized = {} if width is None else {"custom__width": width}
    return properties(**sized, **given)


def coloured_cell(mappings: Sequence[models.ValueMapping]) -> list[models.DynamicConfigValue]:
    """A column whose numbers are words on their colour."""
    return properties(
        mappings=list(mappings),
        custom__cellOptions={"type": "color-background", "mode": "basic"},
        custom__width=150,
    )
