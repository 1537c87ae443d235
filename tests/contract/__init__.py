"""The suite of `diskcache.testing.contract`, run for each cache of the library."""

from diskcache.testing.contract import Contract, suite

__all__ = ["Contract", "suite"]
