"""An exhaustive explorer of the protocol that keeps values in memory fresh.

It runs the product's own functions. Only the outside world is replaced: shared words, the gate, the
database, the clock. Whatever the product asks of them is a *request*; the explorer answers it, and
so decides who goes next, who dies, and whose commit fails. See `docs/coherence.md`.

    world.py      the outside world: requests, their effects, what must be true of it
    rows.py       the database: statements of the product on a table of tuples
    stage.py      the product on top of it: objects that turn calls into requests
    actors.py     actors that are asked what they do next, given all that they have seen
    search.py     all schedules, breadth first, and the way to a state
    scenarios.py  who does what
    mutation.py   edits of the product's source text
"""
