"""What the demonstration computes: files, complexity, imports, figures."""

from __future__ import annotations

import ast
import json

import pytest

from diskcache.cli.analysis import (
    analyse,
    functions,
    imports,
    module_name,
    resolve,
    source_files,
    summarise,
)


def complexity(body):
    """Return the complexity of a function with this body."""
    lines = "\n".join("    " + line for line in body.splitlines())
    return functions(ast.parse(f"async def f(x):\n{lines}"))[0][2]


@pytest.mark.parametrize(
    ("body", "weight"),
    [
        ("pass", 1),
        ("if x: pass", 2),
        ("if x: pass\nelse: pass", 2),
        ("if x: pass\nelif x: pass\nelse: pass", 3),
        ("for y in x: pass\nelse: pass", 2),
        ("async for y in x: pass", 2),
        ("while x: pass", 2),
        ("with x: pass", 1),
        ("try: pass\nexcept A: pass\nexcept B: pass\nelse: pass\nfinally: pass", 3),
        ("assert x", 2),
        ("return 1 if x else 2", 2),
        ("return x and x and x", 3),
        ("return x and x or x", 3),
        ("return [y for y in x]", 2),
        ("return [y for y in x if y if y for z in y]", 5),
        ("match x:\n    case 1: pass\n    case 2: pass\n    case _: pass", 3),
        ("match x:\n    case _ if x: pass", 2),
        ("return lambda: 1 if x else 2", 2),
        ("class A:\n    if x: pass", 2),
    ],
)
def test_functions_count_paths(body, weight):
    assert complexity(body) == weight


def test_functions_inner_function_counts_for_itself():
    tree = ast.parse("def f():\n  def g():\n    if 1: pass\n  for x in 1: pass\n")

    assert functions(tree) == [("f", 1, 2), ("f.<locals>.g", 2, 2)]


def test_functions_decorators_and_defaults_count_for_the_outside():
    tree = ast.parse("def f():\n  @(a if 1 else b)\n  def g(x=1 if 2 else 3): pass\n")

    assert functions(tree) == [("f", 1, 3), ("f.<locals>.g", 3, 1)]


def test_functions_methods_have_qualified_names():
    tree = ast.parse("class A:\n  class B:\n    def m(self): pass\n")

    assert functions(tree) == [("A.B.m", 3, 1)]


def test_functions_deep_expression_needs_no_recursion():
    nested = ast.parse("def f(): pass")
    deep = ast.Constant(1)
    for _ in range(20_000):
        deep = ast.UnaryOp(ast.Not(), deep)
    nested.body[0].body = [ast.Expr(deep)]

    assert functions(nested) == [("f", 1, 1)]
    # Taken apart link by link: freeing the chain at once would recurse.
    while isinstance(deep, ast.UnaryOp):
        deep = deep.operand


@pytest.mark.parametrize(
    ("source", "package", "names"),
    [
        ("import a.b, c as d", "", ["a.b", "c"]),
        ("from a.b import c, d", "", ["a.b.c", "a.b.d"]),
        ("from a import *", "", ["a"]),
        ("from . import x", "p.q", ["p.q.x"]),
        ("from .y import x", "p.q", ["p.q.y.x"]),
        ("from ..y import x", "p.q", ["p.y.x"]),
        ("from ... import x", "p.q", ["x"]),
        ("from .... import x", "p.q", []),
        ("def f():\n  import late", "", ["late"]),
    ],
)
def test_imports_are_absolute(source, package, names):
    assert list(imports(ast.parse(source), package)) == names


@pytest.mark.parametrize(
    ("path", "name"),
    [("a.py", "a"), ("p/a.py", "p.a"), ("p/__init__.py", "p"), ("p/q/__init__.py", "p.q")],
)
def test_module_name(path, name):
    assert module_name(path) == name


def test_resolve_takes_longest_known_start():
    modules = {"p", "p.a"}

    assert [resolve(name, modules) for name in ("p.a.f", "p.f", "sys.path", "sys")] == [
        "p.a",
        "p",
        "sys",
        "sys",
    ]


def test_analyse_package_resolves_relative_imports_from_itself():
    inside = analyse("p/__init__.py", b"from . import a")
    beside = analyse("p/b.py", b"from . import a")

    assert inside["imports"] == beside["imports"] == ["p.a"]


@pytest.mark.parametrize("source", [b"def", b"\xff", b"# coding: nonsense\n", b"a\x00b"])
def test_analyse_unparsable_source_reports_error(source):
    report = analyse("bad.py", source)

    assert report["error"]
    assert report["functions"] == report["imports"] == []


def test_analyse_suppresses_warnings_of_the_source():
    # Warnings are errors in this suite, so one that got out would fail the test.
    assert analyse("a.py", b"'\\d' is 1")["error"] is None


def test_analyse_result_is_plain_data():
    report = analyse("a.py", b"import b\ndef f(): pass\n")

    assert report == {
        "path": "a.py",
        "lines": 2,
        "functions": [("f", 2, 1)],
        "imports": ["b"],
        "error": None,
    }
    assert type(report) is dict
    json.dumps(report)


def test_source_files_are_relative_sorted_and_without_installed_packages(tmp_path):
    for name in ("b.py", "a.txt", "p/c.py", "site-packages/x.py", "p/__pycache__/c.py", "a.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    assert source_files(str(tmp_path)) == ["a.py", "b.py", "p/c.py"]


def test_summarise_counts_and_ranks():
    reports = [
        analyse("a.py", b"import b, sys\ndef f():\n  if 1: pass\n"),
        analyse("b.py", b"import sys, b\ndef g(): pass\n"),
        analyse("c.py", b"from b import g\nimport b\nimport ."),
        analyse("d.py", b"from b import g\nimport b\n"),
    ]

    summary = summarise(reports)

    assert summary == {
        "files": 4,
        "lines": 9,
        "functions": 2,
        "unparsable": 1,
        "edges": 4,
        "complex_functions": [(2, "f", "a.py", 2), (1, "g", "b.py", 2)],
        "imported_modules": [("b", 2), ("sys", 2)],
    }
    assert summarise(reversed(reports)) == summary
    assert summarise(reports, top=1)["imported_modules"] == [("b", 2)]
