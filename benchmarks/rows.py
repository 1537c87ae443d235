"""All rows, in the order of the report. Each module that has some is a line here."""

from __future__ import annotations

import asynchronous
import django_backends
import operations
import structures
from operations import Row

ROWS: tuple[Row, ...] = (
    *operations.ROWS,
    *structures.ROWS,
    *asynchronous.ROWS,
    *django_backends.ROWS,
)


def row_named(name: str) -> Row:
    """Return the row called *name*."""
    return next(row for row in ROWS if row.name == name)
