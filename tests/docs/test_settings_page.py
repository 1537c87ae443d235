"""The page on settings lists every setting and argument, with its default and its range."""

from __future__ import annotations

import inspect
import pickle

from diskcache import DEFAULT_SETTINGS, EVICTION_POLICY, Cache
from diskcache.clock import SYSTEM_CLOCK
from diskcache.disk import Disk
from diskcache.settings import SPECS
from tests.support.pages import sections, table

SECTIONS = sections("docs/settings.md")
NAMES = {"Disk": Disk, "SYSTEM_CLOCK": SYSTEM_CLOCK, "pickle": pickle}


def defaults(section, header):
    return {row[0].strip("`"): eval(row[1].strip("`"), NAMES) for row in table(section, header)}


def test_arguments_of_the_page_are_those_of_the_constructor():
    parameters = [*inspect.signature(Cache.__init__).parameters.values()][1:-1]

    assert defaults(SECTIONS["Arguments"], "argument") == {
        parameter.name: parameter.default for parameter in parameters
    }


def test_settings_of_the_page_have_the_defaults_of_the_code():
    assert defaults(SECTIONS["What a directory remembers"], "setting") == DEFAULT_SETTINGS


def test_ranges_of_the_page_are_those_of_the_code():
    rows = table(SECTIONS["What a directory remembers"], "setting")
    allowed = {row[0].strip("`"): row[2].replace("\\", "").replace("`", "") for row in rows}
    shown = {
        "0, 1": (0, 1),
        "0 to 1": (0, 1),
        "0 to 2": (0, 2),
        "0 to 3": (0, 3),
        "0 to that": (0, pickle.HIGHEST_PROTOCOL),
        "0 and more": (0, 2**63 - 1),
        "0 to 2**30": (0, 2**30),
        "0 to 2**40": (0, 2**40),
        "-2**24 to 2**24": (-(2**24), 2**24),
    }

    for name, spec in SPECS.items():
        if spec.choices:
            assert allowed[name] == ", ".join(spec.choices)
        elif str not in spec.types:
            assert shown[allowed[name]] == (spec.low, spec.high), name


def test_policies_of_the_page_are_those_of_the_code():
    rows = table(SECTIONS["Eviction policies"], "policy")

    assert {row[0].strip("`") for row in rows} == set(EVICTION_POLICY)


def test_settings_that_are_not_believed_are_said_to_be_so():
    rows = table(SECTIONS["What a directory remembers"], "setting")
    doubted = {row[0].strip("`") for row in rows if "never believed" in row[3]}

    assert doubted == {name for name, spec in SPECS.items() if not spec.believed}
