"""Who dies at any step of culling, or of writing reads down, leaves one state or the other."""

from __future__ import annotations

import json
import signal

import pytest

from tests.crash.steps import SCENES
from tests.support.crew import run_script

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")

RUN = "import sys; from tests.crash import steps; steps.main(*sys.argv[1:])"


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("policy", "scenes"),
    [
        ("s3-fifo", list(SCENES)),
        ("least-recently-used", ["write", "flush", "transact"]),
        ("least-frequently-used", ["write", "flush", "transact"]),
    ],
)
def test_process_killed_at_any_step_leaves_the_state_before_or_after(tmp_path, policy, scenes):
    done = run_script(RUN, policy, tmp_path, *scenes, limit=280)

    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout)
    assert list(outcomes) == scenes
    for scene, found in outcomes.items():
        # Each was killed on both sides of its commit.
        assert found["before"] >= 3, scene
        assert found["after"] >= 2, scene
