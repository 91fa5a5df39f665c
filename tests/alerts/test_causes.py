"""Causes to hold: every sentence has a word, and the words are few."""

import inspect
from typing import get_args, get_type_hints

import pytest

from alerts import causes
from alerts.causes import BRAKED, LOST, MIXED, UNREADABLE, Word, silent, word_of, words_of
from metrics.duration import Duration
from metrics.experiment import MINUTE


EXAMPLES: dict[type, object] = {
    str: "ranker-v2.3",
    int: 90 * MINUTE,
    Duration: Duration(15 * MINUTE),
}
"""An argument of each type that a sentence may be made of."""

MAKERS = [
    found
    for name, found in inspect.getmembers(causes, inspect.isfunction)
    if found.__module__ == causes.__name__
    and not name.startswith("_")
    and get_type_hints(found)["return"] is str
]
CONSTANTS = [
    value for name, value in vars(causes).items() if name.isupper() and isinstance(value, str)
]


def sentences() -> dict[str, Word]:
    """Every sentence that can be made, with examples for arguments, and its word."""
    made = list(CONSTANTS)
    for maker in MAKERS:
        types = get_type_hints(maker)
        made.append(maker(*(EXAMPLES[types[name]] for name in inspect.signature(maker).parameters)))
    return {sentence: word_of(sentence) for sentence in made}


def test_every_sentence_that_can_be_made_has_a_word_and_every_word_a_sentence() -> None:
    found = sentences()
    assert len(found) == len(MAKERS) + len(CONSTANTS) > 12
    assert set(found.values()) == set(get_args(Word)) - {"other"}


def test_two_different_causes_share_a_word_only_where_the_state_got_lost() -> None:
    found = sentences()
    lost = {LOST, UNREADABLE}
    rest = [word for sentence, word in found.items() if sentence not in lost]
    assert len(rest) == len(set(rest))
    assert {found[sentence] for sentence in lost} == {"state_unknown"}


@pytest.mark.parametrize("variant", ["new", "version", "stale", "blind-2", "no_data."])
def test_silence_is_known_whatever_the_variant_is_called(variant: str) -> None:
    assert word_of(silent(variant, "old")) == "silent"


def test_what_was_not_made_here_is_other() -> None:
    assert word_of("error_rate 0.3 breaches the bound 0.1") == "other"
    assert word_of("") == "other"


def test_each_word_is_told_once_and_harm_behind_the_brake_is_no_cause() -> None:
    assert words_of((f"{LOST}a", f"{UNREADABLE}b", MIXED)) == ("state_unknown", "units_mixed")
    assert words_of((BRAKED, "error_rate 0.3 breaches the bound 0.1")) == ("braked",)
    assert words_of(()) == ()
