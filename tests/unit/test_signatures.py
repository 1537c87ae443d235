"""Every public method of version 5.6.3 is here, with its parameters, in order and by name.

`signatures_5.json` records what `inspect.signature` says of 5.6.3. More parameters may follow.
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import pytest

import diskcache

RECORDED = json.loads(Path(__file__).with_name("signatures_5.json").read_text(encoding="utf-8"))

OTHERWISE = {
    "FanoutCache": {
        "shards=8": "shards=None",  # as many as the directory has, or 8
        "timeout=0.01": "timeout=60",  # ten milliseconds lost writes
    },
    "throttle": {
        # The functions of the clock of the cache, which are these by default.
        "time_func=time.time": "time_func=None",
        "sleep_func=time.sleep": "sleep_func=None",
    },
}
"""What is said otherwise here, by the name of the callable."""

ONLY_BY_PLACE = {"Index.update"}
"""Methods whose parameters have no names for callers, so that any name may be a key."""

BETWEEN = re.compile(r", (?![^(]*\))")
KINDS = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


def found(name):
    thing = diskcache
    for part in name.split("."):
        thing = getattr(thing, part)
    return thing


def described(parameter):
    default = parameter.default
    if default is inspect.Parameter.empty:
        text = ""
    else:
        text = f"={default.__name__ if isinstance(default, type) else repr(default)}"
    return KINDS.get(parameter.kind, "") + parameter.name + text


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_parameters_of_version_5_are_there(name):
    thing = found(name)
    if RECORDED[name] == "attribute":
        assert not callable(thing)
        return
    parameters = list(inspect.signature(thing).parameters.values())
    expected = [part for part in BETWEEN.split(RECORDED[name]) if part]
    expected = [OTHERWISE.get(name, {}).get(part, part) for part in expected]
    by_place = [part for part in expected if not part.startswith("*")]
    here = [described(parameter) for parameter in parameters]

    assert here[: len(by_place)] == by_place
    assert name in ONLY_BY_PLACE or all(
        parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        for parameter in parameters[: len(by_place)]
    )
    kinds = {text[: text.rindex("*") + 1] for text in here if "*" in text}
    assert kinds >= {part[: part.rindex("*") + 1] for part in expected if part.startswith("*")}


def test_what_differs_is_there():
    for name, parts in OTHERWISE.items():
        assert set(parts) <= set(RECORDED[name].split(", "))
