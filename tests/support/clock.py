"""The clock of the tests: the one that the package offers."""

from diskcache.testing import ManualClock

__all__ = ["ManualClock"]
