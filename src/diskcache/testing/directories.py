"""What a cache keeps in a directory, as seen from outside."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

VALUE_FILE: Final = re.compile(r"([0-9]{3}/)?[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{28}\.val")


def value_files(directory: Path | str) -> list[Path]:
    """Return the value files in *directory*."""
    root = Path(directory)
    return sorted(
        path for path in root.rglob("*") if VALUE_FILE.fullmatch(path.relative_to(root).as_posix())
    )


def open_below(directory: Path) -> list[str]:
    """Return what descriptors of this process point to below *directory*.

    Empty where the system does not tell.
    """
    found = []
    try:
        descriptors = os.listdir("/proc/self/fd")
    except OSError:
        return []
    for descriptor in descriptors:
        try:
            target = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:
            continue
        if target.startswith(f"{directory}{os.sep}"):
            found.append(target)
    return found
