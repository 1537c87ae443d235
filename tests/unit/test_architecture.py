"""The shape of the package: layers, sizes, and what no module does."""

from __future__ import annotations

import ast
import io
import re
import shutil
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.optional import skip_or_fail

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "diskcache"
MODULES = {
    path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(PACKAGE.rglob("*.py"))
}

MAX_MODULE_LINES = 600
MAX_FUNCTION_LINES = 40
SQL = re.compile(
    r"\b(SELECT\s.+\sFROM|INSERT\s+(OR\s+\w+\s+)?INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM"
    r"|CREATE\s+(UNIQUE\s+)?(TABLE|INDEX)|DROP\s+(TABLE|INDEX)|BEGIN\s+IMMEDIATE|PRAGMA\s+\w+)\b",
    re.DOTALL,
)
WORDS_OF_NO_CONCERN = re.compile(
    r"\b(TODO|FIXME|XXX|HACK|(?i:chatgpt|claude|copilot|llm|language model))\b|/home/\w+/|/tmp/\w+/"
)

each_module = pytest.mark.parametrize("module", MODULES)
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.Module) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def body_lines(function: Function) -> int:
    """Return how many lines the body has without its docstring and without inner functions."""
    body = function.body
    if ast.get_docstring(function) is not None:
        body = body[1:]
    if not body:
        return 0
    total = (body[-1].end_lineno or 0) - body[0].lineno + 1
    inner = [
        node for statement in body for node in ast.walk(statement) if isinstance(node, Function)
    ]
    nested = {id(child) for node in inner for child in ast.walk(node) if child is not node}
    return total - sum(
        (node.end_lineno or 0) - node.lineno + 1 for node in inner if id(node) not in nested
    )


def imported(tree: ast.Module) -> set[str]:
    """Return the top-level packages that a module imports, wherever in it."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def strings(tree: ast.Module) -> Iterator[ast.Constant]:
    """Yield the string literals that are no docstrings."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | Function)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from () if id(node) in docstrings else (node,)


def test_the_package_is_found():
    assert "__init__.py" in MODULES
    assert "errors.py" in MODULES


def test_layers_import_only_from_below():
    tool = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    if tool is None:
        skip_or_fail("import-linter is not installed")
    result = subprocess.run(
        [tool, "--no-cache", "--no-logo"],
        cwd=ROOT, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip

    assert result.returncode == 0, result.stdout + result.stderr


@each_module
def test_module_is_not_too_long(module):
    lines = len((PACKAGE / module).read_text(encoding="utf-8").splitlines())

    assert lines <= MAX_MODULE_LINES


@each_module
def test_functions_are_not_too_long(module):
    too_long = {
        f"{function.name}, line {function.lineno}": body_lines(function)
        for function in functions(MODULES[module])
        if body_lines(function) > MAX_FUNCTION_LINES
    }

    assert too_long == {}


@pytest.mark.parametrize(
    "module", [name for name in MODULES if not name.startswith("testing/contract/")]
)
def test_module_has_no_assert(module):
    found = [node.lineno for node in ast.walk(MODULES[module]) if isinstance(node, ast.Assert)]

    assert found == []


@each_module
def test_module_catches_no_exception_that_it_does_not_know(module):
    found = [
        node.lineno
        for node in ast.walk(MODULES[module])
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or (isinstance(node.type, ast.Name) and node.type.id == "Exception"))
    ]

    assert found == []


@each_module
def test_module_that_catches_everything_raises_it_again(module):
    found = [
        node.lineno
        for node in ast.walk(MODULES[module])
        if isinstance(node, ast.ExceptHandler)
        and isinstance(node.type, ast.Name)
        and node.type.id == "BaseException"
        and not any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
    ]

    assert found == []


def test_the_contract_is_in_the_package_alone():
    """A class of the suite that lies elsewhere would not be run."""
    beside = {path.name for path in (ROOT / "tests" / "contract").glob("*.py")} - {"__init__.py"}

    assert {name for name in beside if not name.startswith("test_")} == set()


@each_module
def test_module_has_a_docstring(module):
    assert ast.get_docstring(MODULES[module])


@each_module
def test_module_speaks_of_the_project_alone(module):
    text = (PACKAGE / module).read_text(encoding="utf-8")
    comments = [
        token.string
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type in (tokenize.COMMENT, tokenize.STRING)
    ]

    assert [comment for comment in comments if WORDS_OF_NO_CONCERN.search(comment)] == []


def test_apsw_is_imported_only_by_the_sqlite_engine():
    users = {module for module, tree in MODULES.items() if "apsw" in imported(tree)}

    assert {module for module in users if not module.startswith("engines/sqlite/")} == set()


def test_standard_sqlite3_is_used_only_for_its_errors():
    users = {module for module, tree in MODULES.items() if "sqlite3" in imported(tree)}

    assert {name for name in users if not name.startswith("testing/contract/")} <= {
        "errors.py",
        "disk.py",
    }


def test_engines_do_not_pickle():
    users = {
        module
        for module, tree in MODULES.items()
        if imported(tree) & {"pickle", "pickletools", "marshal", "shelve"}
    }

    assert {module for module in users if module.startswith("engines/")} == set()


def test_no_module_imports_tests_of_the_repository():
    assert {module for module, tree in MODULES.items() if "tests" in imported(tree)} == set()


def test_pytest_is_imported_only_by_what_is_for_tests():
    users = {module for module, tree in MODULES.items() if "pytest" in imported(tree)}

    assert {module for module in users if not module.startswith("testing/")} == set()


@pytest.mark.parametrize(
    ("library", "modules"),
    [
        ("django", {"integrations/django.py"}),
        (
            "asyncio",
            {
                "aio/base.py",
                "aio/locks.py",
                "aio/pool.py",
                "aio/tasks.py",
                "aio/transacting.py",
                "computing/looping.py",
                "engines/redis/looped.py",
            },
        ),
    ],
)
def test_library_is_imported_by_few_modules(library, modules):
    users = {name for name, tree in MODULES.items() if library in imported(tree)}

    assert {name for name in users if not name.startswith("testing/contract/")} == modules


def test_redis_is_imported_by_its_engine_alone():
    users = {module for module, tree in MODULES.items() if "redis" in imported(tree)}

    assert users == {
        "engines/redis/driver.py",
        "engines/redis/errors.py",
        "engines/redis/looped.py",
        "engines/redis/wire.py",
    }


@pytest.mark.parametrize(
    "module",
    [
        name
        for name in MODULES
        if not name.startswith(("engines/sqlite/", "testing/contract/")) and name != "policy.py"
    ],
)
def test_sql_is_written_only_in_the_sqlite_engine_and_in_policies(module):
    found = [node.lineno for node in strings(MODULES[module]) if SQL.search(str(node.value))]

    assert found == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT key FROM Cache", True),
        ("DELETE FROM Cache", True),
        ("select an entry from the cache", False),
        ("Update the entry and set it", False),
    ],
)
def test_sql_is_recognised(text, expected):
    assert bool(SQL.search(text)) is expected


def test_body_lines_counts_neither_docstring_nor_inner_functions():
    tree = ast.parse(
        'def f():\n    """Doc."""\n    a = 1\n    def g():\n        b = 2\n    c = 3\n'
    )

    assert [body_lines(function) for function in functions(tree)] == [2, 1]
