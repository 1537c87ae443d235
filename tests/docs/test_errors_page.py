"""The page on errors lists every public error and warning, with what else it is."""

from __future__ import annotations

import builtins
import pickle
import sqlite3

import diskcache
from diskcache import DiskCacheError, DiskCacheWarning
from tests.support.pages import sections, table

SECTIONS = sections("docs/errors.md")
BASES = {"DiskCacheError", "DiskCacheWarning"}
NAMES = {**vars(builtins), "sqlite3": sqlite3, "pickle": pickle}
PUBLIC = {name: getattr(diskcache, name) for name in diskcache.__all__}


def rows(header):
    return {
        row[0].strip("`"): row[1].replace("`", "")
        for section in SECTIONS.values()
        if f"| {header} | is also |" in section
        for row in table(section, header)
    }


def kinds(text):
    return {eval(name, {**NAMES, **PUBLIC}) for name in text.split(", ") if name}


def test_every_public_error_is_on_the_page():
    errors = {
        name
        for name, thing in PUBLIC.items()
        if isinstance(thing, type) and issubclass(thing, DiskCacheError)
    }

    assert set(rows("error")) == errors - BASES


def test_every_public_warning_is_on_the_page():
    warnings = {
        name
        for name, thing in PUBLIC.items()
        if isinstance(thing, type) and issubclass(thing, Warning)
    }

    assert set(rows("warning")) == warnings - BASES


def test_what_an_error_is_also_are_its_bases():
    wrong = {
        name: text
        for name, text in {**rows("error"), **rows("warning")}.items()
        if kinds(text) != set(PUBLIC[name].__bases__) - {DiskCacheError}
    }

    assert wrong == {}


def test_warnings_of_this_library_are_user_warnings():
    assert DiskCacheWarning.__bases__ == (UserWarning,)
