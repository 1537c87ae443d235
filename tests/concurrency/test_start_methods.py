"""Every class works in threads and in processes, however they are started, and when it is pickled.

Property: objects that were used in a process are handed to others, which use them in threads of
their own at the same time as the first; they see one state, and lose nothing. What comes back from
them by pickling is the same object again.

All objects go to the same processes, once for each start method: starting is what takes time.
"""

from __future__ import annotations

import pickle
import sys
import threading
from pathlib import Path

import pytest

from tests.concurrency import shared
from tests.support.crew import in_processes

PROCESSES = 2


@pytest.fixture(scope="module", params=["spawn", "fork", "forkserver"])
def story(request, tmp_path_factory):
    """Let processes use the objects, beside this one; return what is left of each, and names."""
    directory: Path = tmp_path_factory.mktemp(request.param)
    source = shared.SOURCE.format(directory=str(directory))
    (directory / f"{shared.MODULE}.py").write_text(source, encoding="utf-8")
    sys.path.insert(0, str(directory))
    try:
        objects = {name: kind.make(directory / name) for name, kind in shared.KINDS.items()}
        names = shared.use_in_threads(objects, 0)
        yield objects, *beside_others(objects, names, request.param), directory
        shared.close(objects)
    finally:
        sys.path.remove(str(directory))
        sys.modules.pop(shared.MODULE, None)


def beside_others(objects, names, method):
    """Use the objects in this process and in others; return all names, and what came back."""
    here: list[str] = []
    thread = threading.Thread(target=lambda: here.extend(shared.use_in_threads(objects, 9)))
    thread.start()
    jobs = [(objects, number) for number in range(1, PROCESSES + 1)]
    answers = in_processes(shared.use_given, jobs, method=method, limit=100)
    thread.join(100)
    returned = [pickle.loads(data) for _, data in answers]
    return names + here + [name for used, _ in answers for name in used], returned


@pytest.mark.parametrize("name", shared.KINDS)
def test_object_is_shared_and_loses_nothing(story, name):
    objects, names, returned, _ = story
    kind = shared.KINDS[name]
    expected = kind.expected(names, shared.STEPS)

    assert len(names) == (PROCESSES + 2) * shared.THREADS
    assert kind.left(objects[name]) == expected
    assert [kind.left(other[name]) for other in returned] == [expected] * PROCESSES
    shared.close({name: objects[name]})
    for other in returned:
        shared.close({name: other[name]})
    assert kind.left(objects[name]) == expected


def test_memoized_functions_are_called_once_for_all_who_came_later(story):
    directory = story[3]
    calls = (directory / "calls").read_text(encoding="utf-8").splitlines()

    assert {call.rpartition(" ")[0] for call in calls} == {"cache", "fanout", "index"}
    # The first process had called them before the others began; its two threads may both have.
    assert len(calls) <= 3 * shared.STEPS * shared.THREADS
    assert len(set(calls)) == 3 * shared.STEPS
