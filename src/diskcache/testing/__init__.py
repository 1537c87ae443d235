"""For tests of programs that use caches, and of engines that store their entries.

Nothing here needs more than the library itself, except `diskcache.testing.contract`, which needs
pytest: `pip install "diskcache[testing]"`.
"""

from __future__ import annotations

from diskcache.testing.clock import ManualClock
from diskcache.testing.variants import Variant

__all__ = ["ManualClock", "Variant"]
