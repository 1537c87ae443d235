"""Edits of the product's source text, for as long as a test takes.

A module's file is read, one text in it is replaced by another, and the result compiled. Every
function of the module whose code has become another gets that code, so whoever holds the function
runs the edited one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import NamedTuple


class Edit(NamedTuple):
    """A text of the product, and what stands in its place."""

    module: str
    old: str
    new: str


@contextmanager
def edited(*edits: Edit) -> Iterator[None]:
    """Run the product with its source edited."""
    before: list[tuple[FunctionType, CodeType]] = []
    try:
        for name in {edit.module for edit in edits}:
            module = import_module(f"diskcache.{name}")
            text = _edited_text(module, [edit for edit in edits if edit.module == name])
            before += _put_in(module, text)
        yield
    finally:
        for function, code in before:
            function.__code__ = code


def _edited_text(module: ModuleType, edits: list[Edit]) -> str:
    text = Path(str(module.__file__)).read_text(encoding="utf-8")
    for edit in edits:
        if text.count(edit.old) != 1:
            raise AssertionError(
                f"{module.__name__} has {text.count(edit.old)} times, not once: {edit.old!r}"
            )
        text = text.replace(edit.old, edit.new)
    return text


def _put_in(module: ModuleType, text: str) -> list[tuple[FunctionType, CodeType]]:
    """Give functions the code that they have in *text*; return what they had."""
    codes = dict(_codes(compile(text, str(module.__file__), "exec")))
    before = []
    for function in _functions(module):
        code = codes.get(function.__qualname__)
        if code is not None and code != function.__code__:
            before.append((function, function.__code__))
            function.__code__ = code
    return before


def _codes(code: CodeType) -> Iterator[tuple[str, CodeType]]:
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield inner.co_qualname, inner
            yield from _codes(inner)


def _functions(module: ModuleType) -> Iterator[FunctionType]:
    for thing in list(vars(module).values()):
        if isinstance(thing, FunctionType) and thing.__module__ == module.__name__:
            yield getattr(thing, "__wrapped__", thing)
        elif isinstance(thing, type) and thing.__module__ == module.__name__:
            for part in vars(thing).values():
                part = part.fget if isinstance(part, property) else part
                if isinstance(part, FunctionType):
                    yield getattr(part, "__wrapped__", part)
