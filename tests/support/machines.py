"""How tests of state machines are run."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings


def run_with(examples: int, each: int, *, is_fixed: bool = True) -> settings:
    """Return settings for so many examples of so many steps each, that take the time they take.

    Args:
        examples: How many.
        each: Steps of one at most.
        is_fixed: The same ones in each run.
    """
    return settings(
        max_examples=examples,
        stateful_step_count=each,
        deadline=None,
        derandomize=is_fixed,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
