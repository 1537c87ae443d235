"""What must not be done to the protocol: edits of the product, and where each is found out."""

from __future__ import annotations

from typing import Final, NamedTuple

from tests.explorer.mutation import Edit

CONNECTION, ALONE = "engines.sqlite.connection", "engines.sqlite.alone"
ENGINE, SESSION, CONTROL = (
    "engines.sqlite.engine",
    "engines.sqlite.session",
    "engines.sqlite.control",
)
COHERENCE, CULLING, SITE = "coherence", "engines.sqlite.culling", "engines.sqlite.site"

BULK = "two writers that may die, a bulk removal, a reader"
MENDERS = "readers that mend what a dead writer left"
PINNED = "a connection in the middle of a read"
ROLLBACK = "two keys with one generation, and a rollback"
FAULTS = "full disks and interrupts"
THREADS = "two threads of one process, one of them in a transaction"
VANISHED = "a control file that vanishes"
LEASES = "a control file that vanishes under writers who have just looked"
MISSES = "misses that are kept"
KEEPERS = "writers that keep what they store"


class Mutant(NamedTuple):
    """Edits, the scenario that shows what they break, and words of what it says."""

    edits: tuple[Edit, ...]
    scenario: str
    problem: str


def _swapped(first: str, second: str) -> tuple[str, str]:
    return first + second, second + first


_MARK, _COMMIT, _SETTLE = (
    "                mark(words, self.slots)\n",
    '                self.run("COMMIT")\n',
    "                settle(words, self.slots)\n",
)
_ADDED = "                    self._add_totals(words)\n"
_ENDED = "                    words[END] = began\n"
_BEGAN = "                began = words[BEGIN] = (words[BEGIN] + 1) & MASK\n"
_GENERATION = """            generation = source.words[slot]
            if generation & 1:
                self._suspect(link, source.words)
                source = None
"""
_ROW = "        row = self.get(key, now) if noting else self._read_soundly(link, (*key, now))\n"

MUTANTS: Final = {
    "generations become odd after the commit": Mutant(
        (Edit(CONNECTION, *_swapped(_MARK, _COMMIT)),), BULK, "stale"
    ),
    "generations never become odd": Mutant((Edit(CONNECTION, _MARK, ""),), BULK, "stays odd"),
    "generations become even before the commit": Mutant(
        (Edit(CONNECTION, *_swapped(_COMMIT, _SETTLE)),), BULK, "stale"
    ),
    "generations stay odd": Mutant((Edit(CONNECTION, _SETTLE, ""),), BULK, "stays odd"),
    "the end comes before the totals": Mutant(
        (Edit(CONNECTION, *_swapped(_ADDED, _ENDED)),), BULK, "count says"
    ),
    "a write begins after its commit": Mutant(
        (
            Edit(CONNECTION, _BEGAN, ""),
            Edit(CONNECTION, _SETTLE, _BEGAN + _SETTLE),
        ),
        BULK,
        "with begin = end",
    ),
    "the gate opens before generations are even": Mutant(
        (Edit(CONNECTION, _SETTLE, "                site.gate.release(self)\n" + _SETTLE),),
        BULK,
        "without the gate",
    ),
    "a short write commits before its generation is odd": Mutant(
        (
            Edit(
                ALONE,
                "    words[slot] = odd = words[slot] | 1\n    try:\n"
                "        result = link.run(statement, values).get\n",
                "    odd = words[slot] | 1\n    try:\n"
                "        result = link.run(statement, values).get\n        words[slot] = odd\n",
            ),
        ),
        BULK,
        "stale",
    ),
    "a short write leaves its generation as it was": Mutant(
        (
            Edit(
                ALONE,
                "    words[slot] = (odd + 1) & MASK\n    return result",
                "    words[slot] = odd - 1\n    return result",
            ),
        ),
        BULK,
        "stale",
    ),
    "a short write ends before it is counted": Mutant(
        (
            Edit(
                ALONE,
                "    stored = True\n    if con.last_insert_rowid():\n",
                "    stored = True\n    words[END] = words[BEGIN]\n"
                "    if con.last_insert_rowid():\n",
            ),
        ),
        MISSES,
        "count says",
    ),
    "what was stored is kept under a generation of later": Mutant(
        (
            Edit(
                ALONE,
                "            if keep is not None:\n"
                "                kept = _settled(link, words, key[0])\n",
                "",
            ),
            Edit(
                ALONE,
                "    if keep is not None and kept is not None:\n        keep(*kept)\n",
                "    if keep is not None:\n        keep(*_settled(link, words, key[0]))\n",
            ),
        ),
        KEEPERS,
        "stale",
    ),
    "a removed entry is not told of": Mutant(
        (Edit(CULLING, "    link.touched(key)\n", ""),), BULK, "stale"
    ),
    "the generation is read after the entry": Mutant(
        (
            Edit(
                ENGINE,
                _GENERATION + _ROW,
                "            generation = 0\n"
                + _ROW
                + "        if source is not None:\n"
                + _GENERATION,
            ),
        ),
        BULK,
        "stale",
    ),
    "what was read under an odd generation is kept": Mutant(
        (
            Edit(
                ENGINE,
                "                self._suspect(link, source.words)\n"
                "                source = None\n",
                "                self._suspect(link, source.words)\n",
            ),
        ),
        BULK,
        "stale",
    ),
    "what an unfinished read sees is kept": Mutant(
        (Edit(ENGINE, " or not link.is_idle()", ""),), PINNED, "stale"
    ),
    "what a transaction sees is kept": Mutant(
        (
            Edit(
                ENGINE,
                "        if link.depth or link.is_looking or",
                "        if link.is_looking or",
            ),
            Edit(ENGINE, " or not link.is_idle()", ""),
            # What is hidden cannot be kept either.
            Edit(COHERENCE, "self.hidden += 1\n        self.words = _NOTHING", "self.hidden += 1"),
        ),
        ROLLBACK,
        "stale",
    ),
    "nobody mends what a dead writer left": Mutant(
        (
            Edit(
                CONNECTION,
                "                if words[BEGIN] != words[END] or words[FILES]:",
                "                if words[FILES]:",
            ),
            Edit(
                ALONE,
                "    if words[BEGIN] != words[END] or words[FILES] or words[SPENT]:",
                "    if words[FILES] or words[SPENT]:",
            ),
        ),
        BULK,
        "with begin = end",
    ),
    "a short write does not look for a dead writer": Mutant(
        (
            Edit(
                ALONE,
                "    if words[BEGIN] != words[END] or words[FILES] or words[SPENT]:",
                "    if words[FILES] or words[SPENT]:",
            ),
        ),
        MISSES,
        "count says",
    ),
    "generations of a dead writer stay odd": Mutant(
        (
            Edit(
                CONNECTION,
                "        settle(words, [slot for slot in ALL_SLOTS if words[slot] & 1])\n",
                "",
            ),
        ),
        MISSES,
        "stays odd",
    ),
    "generations of a dead writer go back": Mutant(
        (
            Edit(
                CONNECTION,
                "        settle(words, [slot for slot in ALL_SLOTS if words[slot] & 1])\n",
                "        for slot in ALL_SLOTS:\n            words[slot] &= MASK - 1\n",
            ),
        ),
        BULK,
        "stale",
    ),
    "mending writes no row": Mutant(
        (Edit(CONNECTION, "        self.execute(sql.RECOVERED)\n", ""),),
        MISSES,
        "once all have closed",
    ),
    "a failed commit ends like any other": Mutant(
        (
            Edit(
                ALONE,
                "    except apsw.Error:\n        return FAILED\n    words[slot]",
                "    except apsw.Error:\n        words[END] = words[BEGIN]\n"
                "        return FAILED\n    words[slot]",
            ),
        ),
        FAULTS,
        "stays odd",
    ),
    "a transaction hides nothing from its own thread": Mutant(
        (
            Edit(
                SESSION,
                "            link.hide()\n            return link, 0",
                "            return link, 0",
            ),
            Edit(
                ENGINE,
                "        if link.hidden is None:\n            link.hide()\n        link.puts",
                "        link.puts",
            ),
        ),
        THREADS,
        "in its transaction",
    ),
    "another thread's look undoes what a transaction hides": Mutant(
        (
            Edit(
                COHERENCE,
                "self.hidden += 1\n        self.words = _NOTHING",
                "self.hidden += 1\n        self.look_at = -INFINITY",
            ),
        ),
        THREADS,
        "in its transaction",
    ),
    "belief begins after the look": Mutant(
        (Edit(SESSION, "trust(looked_at + LOOK_EVERY)", "trust(monotonic() + LOOK_EVERY)"),),
        VANISHED,
        "stale",
    ),
    "a given up mapping is believed": Mutant(
        (
            Edit(
                SITE,
                "        if control is not None:\n            control.source.retire()\n"
                "        holder",
                "        holder",
            ),
        ),
        VANISHED,
        "stale",
    ),
    "a new control file waits for nobody": Mutant(
        (Edit(CONTROL, "            time.sleep(2 * LEASE)\n", "            pass\n"),),
        LEASES,
        "stale",
    ),
}
