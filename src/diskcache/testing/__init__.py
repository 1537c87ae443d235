"""For tests of programs that use caches, and of engines that store their entries.

Nothing here needs more than the library itself, except `diskcache.testing.plugin` and
`diskcache.testing.contract`, which need pytest: `pip install "diskcache[testing]"`.
"""

from __future__ import annotations

from diskcache.testing.clock import ManualClock
from diskcache.testing.faults import Faults, FaultyEngine, faulty
from diskcache.testing.variants import Variant

__all__ = ["Faults", "FaultyEngine", "ManualClock", "Variant", "faulty"]
