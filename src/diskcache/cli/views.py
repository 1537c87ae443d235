"""How the result of each command is shown: as JSON, or as text for a person."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from typing import Any, Final

from diskcache.cli.commands import Result
from diskcache.cli.render import (
    Cell,
    Output,
    human_bytes,
    human_seconds,
    shown,
)

View = Callable[[Namespace, Result, Output], None]


def show(args: Namespace, result: Result, output: Output) -> None:
    """Print the result of a command."""
    if getattr(args, "raw", False):
        _raw(result, output)
    elif args.json:
        output.json(result.data)
    else:
        VIEWS[args.command](args, result, output)


def _raw(result: Result, output: Output) -> None:
    """Print text or bytes, or copy them from an open file."""
    value: Any = result.value
    if isinstance(value, str):
        output.raw(value.encode("utf-8", "surrogatepass"))
    elif isinstance(value, bytes):
        output.raw(value)
    else:
        with value:
            while block := value.read(2**20):
                output.raw(block)


def undescribed(data: dict[str, Any] | None) -> str:
    """Return on one line what `described` said about a key or a tag."""
    if data is None:
        return "-"
    if "value" in data:
        return shown(data["value"])
    if "base64" in data:
        import base64

        return repr(base64.b64decode(data["base64"]))
    return str(data["repr"])


def _info(_: Namespace, result: Result, output: Output) -> None:
    data = dict(result.data)
    reads = data["hits"] + data["misses"]
    rows: list[tuple[str, Cell]] = []
    for name, value in data.items():
        if name == "off":
            rows += [(f"off: {feature}", reason) for feature, reason in value.items()]
        elif name in ("volume", "disk_usage", "size_limit", "value_limit"):
            rows.append((name.replace("_", " "), human_bytes(value)))
        else:
            cell = value if type(value) in (int, float) else shown(_yes_no(value))
            rows.append((name.replace("_", " "), cell))
    if reads:
        rows.append(("hit ratio", f"{data['hits'] / reads:.1%}"))
    output.fields(rows)


def _yes_no(value: object) -> object:
    if value is None:
        return "-"
    if type(value) is bool:
        return "yes" if value else "no"
    return value


def _ls(args: Namespace, result: Result, output: Output) -> None:
    rows = [
        (
            undescribed(entry["key"]),
            entry["key"]["type"],
            "may not be loaded" if not entry["loadable"] else entry["value_type"],
            "-" if entry["size"] is None else human_bytes(entry["size"]),
            undescribed(entry["tag"]),
            "-" if entry["expires_in"] is None else human_seconds(entry["expires_in"]),
        )
        for entry in result.data["entries"]
    ]
    if rows:
        output.table(("key", "key type", "value", "size", "tag", "expires in"), rows)
    else:
        output.line("no entries")
    if result.data["truncated"]:
        output.line(f"… and more: --limit {args.limit} was reached, --limit 0 lists all")


def _get(_: Namespace, result: Result, output: Output) -> None:
    output.line(result.value if isinstance(result.value, str) else repr(result.value))


def _set(args: Namespace, _: Result, output: Output) -> None:
    output.line(f"stored {args.key!r}")


def _removed(_: Namespace, result: Result, output: Output) -> None:
    for key in result.data.get("missing", ()):
        output.note(f"no such key: {undescribed(key)!r}")
    removed = result.data["removed"]
    output.line(f"removed {removed:,} {'entry' if removed == 1 else 'entries'}")


def _check(args: Namespace, result: Result, output: Output) -> None:
    found, left = result.data["findings"], result.data["remaining"]
    for finding in found:
        output.line(f"{finding['category']}: {shown(finding['message'])}")
    if not found:
        output.line("no problems found")
    elif args.fix:
        output.line(f"fixed {result.data['fixed']:,} of {len(found):,}")
        if left:
            output.line("what is left is not the cache's own, or cannot be mended")
    else:
        many, them = ("problem", "it") if left == 1 else ("problems", "them")
        output.line(f"{left:,} {many} found; mend {them} with: check --fix")


VIEWS: Final[dict[str, View]] = {
    "info": _info,
    "ls": _ls,
    "get": _get,
    "set": _set,
    "delete": _removed,
    "evict": _removed,
    "expire": _removed,
    "cull": _removed,
    "clear": _removed,
    "check": _check,
}
