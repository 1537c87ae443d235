"""What the demonstration computes: complexity and imports of Python source files.

Everything here is a pure function of its arguments and returns plain data, so that results can
be kept in a cache under the hash of the source.
"""

from __future__ import annotations

import ast
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple, TypedDict

SKIPPED_FOLDERS: Final = frozenset({"__pycache__", "site-packages", "dist-packages"})
"""Not part of the standard library, or no source."""


class Report(TypedDict):
    """What is known about one source file."""

    path: str
    lines: int
    functions: list[tuple[str, int, int]]
    """Qualified name, first line and cyclomatic complexity of each function."""
    imports: list[str]
    """Dotted names, absolute, sorted; the last part may be a module or a name inside one."""
    error: str | None
    """Why the file could not be parsed."""


class Summary(TypedDict):
    """What is known about a whole tree."""

    files: int
    lines: int
    functions: int
    unparsable: int
    edges: int
    complex_functions: list[tuple[int, str, str, int]]
    """Complexity, function, path and line, the most complex first."""
    imported_modules: list[tuple[str, int]]
    """Module and number of modules that import it, the most imported first."""


def source_files(root: str) -> list[str]:
    """Return the Python files below *root*: relative, with forward slashes, sorted."""
    found = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in SKIPPED_FOLDERS]
        inside = os.path.relpath(folder, root).replace(os.sep, "/")
        prefix = "" if inside == "." else inside + "/"
        found += [prefix + name for name in names if name.endswith(".py")]
    return sorted(found)


def module_name(path: str) -> str:
    """Return the dotted name of the module in the file *path*.

    Example:
        >>> module_name('json/decoder.py'), module_name('json/__init__.py')
        ('json.decoder', 'json')
    """
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def analyse(path: str, source: bytes) -> Report:
    """Return complexity and imports of one file; one that cannot be parsed has an error."""
    report = Report(path=path, lines=source.count(b"\n"), functions=[], imports=[], error=None)
    try:
        with warnings.catch_warnings():
            # Sources may hold invalid escapes; they are not this program's to complain about.
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as exc:
        report["error"] = f"{type(exc).__name__}: {exc}"
        return report
    report["functions"] = functions(tree)
    package = module_name(path)
    if not path.endswith("__init__.py"):
        package = package.rpartition(".")[0]
    report["imports"] = sorted(set(imports(tree, package)))
    return report


# -- Complexity --------------------------------------------------------------------------------


class _Scope(NamedTuple):
    """Where a node lies while the tree is walked."""

    prefix: str
    """Start of the qualified name of what is defined here."""
    function: int | None
    """Index of the function that the node belongs to."""


def functions(tree: ast.AST) -> list[tuple[str, int, int]]:
    """Return name, line and cyclomatic complexity of each function, in source order.

    The complexity is 1 plus one for each `if`, `for`, `while`, `except`, `assert`, conditional
    expression, `case` that can fail, loop and condition of a comprehension, and each `and` and
    `or`. A function inside another counts for itself alone, a lambda for where it stands.
    """
    found: list[tuple[str, int]] = []
    weights: list[int] = []
    # A stack of its own, because the recursion limit is lower than some sources are deep.
    stack: list[tuple[ast.AST, _Scope]] = [(tree, _Scope("", None))]
    while stack:
        node, scope = stack.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found.append((scope.prefix + node.name, node.lineno))
            weights.append(1)
            inner = _Scope(f"{scope.prefix}{node.name}.<locals>.", len(found) - 1)
            stack += [(child, scope) for child in (*node.decorator_list, node.args)]
            stack += [(child, inner) for child in node.body]
            continue
        if scope.function is not None:
            weights[scope.function] += _weight(node)
        if isinstance(node, ast.ClassDef):
            scope = scope._replace(prefix=f"{scope.prefix}{node.name}.")
        stack += [(child, scope) for child in ast.iter_child_nodes(node)]
    named = [(name, line, weight) for (name, line), weight in zip(found, weights, strict=True)]
    return sorted(named, key=lambda function: function[1])


_ONE: Final = (
    ast.If,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.ExceptHandler,
    ast.Assert,
    ast.IfExp,
)


def _weight(node: ast.AST) -> int:
    """Return how many more paths there are because of *node*."""
    if isinstance(node, _ONE):
        return 1
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    if isinstance(node, ast.comprehension):
        return 1 + len(node.ifs)
    if isinstance(node, ast.match_case):
        pattern = node.pattern
        always = isinstance(pattern, ast.MatchAs) and pattern.pattern is None
        return 0 if always and node.guard is None else 1
    return 0


# -- Imports -----------------------------------------------------------------------------------


def imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Yield the dotted names that a module of *package* imports, wherever it does so."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node.module or "", node.level, package)
            if base is None:
                continue
            for alias in node.names:
                yield ".".join(part for part in (base, alias.name) if part not in ("", "*"))


def _absolute(module: str, level: int, package: str) -> str | None:
    """Return the absolute name of a relative import; None if it points outside the tree."""
    if not level:
        return module
    parts = package.split(".") if package else []
    if level - 1 > len(parts):
        return None
    parts = parts[: len(parts) - (level - 1)]
    return ".".join([*parts, module] if module else parts)


def resolve(name: str, modules: Iterable[str] | Mapping[str, object]) -> str:
    """Return the module that *name* leads to: the longest start of it that is in *modules*.

    A name outside the tree leads to its first part.

    Example:
        >>> resolve('json.decoder.JSONDecoder', {'json', 'json.decoder'})
        'json.decoder'
        >>> resolve('sys.path', {'json'})
        'sys'
    """
    known = name
    while known:
        if known in modules:
            return known
        known = known.rpartition(".")[0]
    return name.partition(".")[0]


def summarise(reports: Iterable[Report], top: int = 10) -> Summary:
    """Return the figures of a whole tree: its totals, its worst functions, its busiest modules."""
    reports = sorted(reports, key=lambda report: report["path"])
    modules = {module_name(report["path"]) for report in reports}
    importers: Counter[str] = Counter()
    for report in reports:
        own = module_name(report["path"])
        importers.update({resolve(name, modules) for name in report["imports"]} - {own, ""})
    ranked = sorted(
        (-weight, report["path"], line, name)
        for report in reports
        for name, line, weight in report["functions"]
    )
    return Summary(
        files=len(reports),
        lines=sum(report["lines"] for report in reports),
        functions=len(ranked),
        unparsable=sum(report["error"] is not None for report in reports),
        edges=importers.total(),
        complex_functions=[(-minus, name, path, line) for minus, path, line, name in ranked[:top]],
        imported_modules=sorted(importers.items(), key=lambda item: (-item[1], item[0]))[:top],
    )
