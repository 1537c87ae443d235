"""What a server tells decides what is a hit: no server, no thread, no time here."""

from __future__ import annotations

import random
import threading

import pytest

from diskcache.engines.redis.protocol import DEEPEST, Decoder, Push, Refused, encode
from diskcache.engines.redis.tracking import (
    BEAT,
    MOST_TAGGED,
    NARROW,
    TRUST,
    Line,
    LineLostError,
    Tracking,
    prefixes,
)

FAR = float("inf")


@pytest.fixture
def tracking():
    made = Tracking("app")
    made.begin(FAR)
    return made


def is_good(ticket):
    """Tell whether what was kept under a ticket would be a hit."""
    return ticket.source.words[ticket.slot] == ticket.generation and ticket.source.look_at == FAR


def entry(ident, shard=0):
    return b"{app:%d}:e:%s" % (shard, ident)


# -- Tracking --


def test_ticket_is_good_until_its_key_changes(tracking):
    one, other = tracking.ticket(b"2a"), tracking.ticket(b"2b")
    tracking.invalidate([entry(b"2a", 3)])

    assert not is_good(one)
    assert is_good(other)
    assert is_good(tracking.ticket(b"2a"))


def test_ticket_drawn_before_an_invalidation_is_never_good_again(tracking):
    """A read in flight while others write keeps what it reads under what it drew before."""
    early = tracking.ticket(b"2a")
    for _ in range(1000):
        tracking.invalidate([entry(b"2a")])

        assert not is_good(early)


def test_nothing_may_be_kept_before_begin_and_after_lost(tracking):
    assert Tracking("app").ticket(b"2a") is None
    ticket = tracking.ticket(b"2a")
    tracking.lost(tracking.epoch)

    assert tracking.ticket(b"2a") is None
    assert not is_good(ticket)
    tracking.begin(FAR)
    assert not is_good(ticket)
    assert is_good(tracking.ticket(b"2a"))


def test_connection_of_before_changes_nothing_of_the_one_of_now(tracking):
    before = tracking.epoch
    tracking.begin(FAR)
    ticket = tracking.ticket(b"2a")
    tracking.lost(before)
    tracking.trust(before, -FAR)

    assert is_good(ticket)


@pytest.mark.parametrize("keys", [None, [b"{app:0}:v"]])
def test_everything_is_forgotten_when_all_is_flushed_or_cleared(tracking, keys):
    ticket = tracking.ticket(b"2a")
    tracking.invalidate(keys)

    assert not is_good(ticket)
    assert is_good(tracking.ticket(b"2a"))


def test_keys_of_others_change_nothing(tracking):
    ticket = tracking.ticket(b"2a")
    tracking.invalidate(
        [b"{ap:0}:e:2a", b"{application:0}:v", b"app", b"", b"{app:0}:o", b"{app:0}:l", b"}:v"]
    )

    assert is_good(ticket)


def test_entries_with_a_tag_are_forgotten_with_it(tracking):
    tagged, other = tracking.ticket(b"2a"), tracking.ticket(b"2b")
    tracking.note_tag(b"2t", tagged.slot)
    tracking.note_tag(b"2u", other.slot)
    tracking.invalidate([b"{app:0}:g:2t"])

    assert not is_good(tagged)
    assert is_good(other)


def test_tags_are_remembered_up_to_a_limit(tracking):
    ticket = tracking.ticket(b"2a")
    for number in range(MOST_TAGGED + 1):
        tracking.note_tag(b"2t", number)
    assert not is_good(ticket)
    assert not tracking._tagged


def test_nothing_is_a_hit_or_kept_while_hidden(tracking):
    ticket = tracking.ticket(b"2a")
    tracking.hide()
    assert tracking.ticket(b"2a") is None
    assert not is_good(ticket)
    tracking.begin(FAR)
    assert tracking.ticket(b"2a") is None

    tracking.show()
    assert is_good(tracking.ticket(b"2a"))
    tracking.show()
    assert is_good(tracking.ticket(b"2a"))


def test_forked_child_forgets_and_may_go_on(tracking):
    ticket = tracking.ticket(b"2a")
    other = threading.Thread(target=tracking._lock.acquire)
    other.start()
    other.join()
    tracking.reset()

    assert tracking.ticket(b"2a") is None
    tracking.begin(FAR)
    assert not is_good(ticket)


def test_signal_handler_may_come_in_the_middle(tracking):
    with tracking._lock:
        tracking.invalidate(None)
        tracking.note_tag(b"2t", 1)
        assert is_good(tracking.ticket(b"2a"))


def test_numbers_do_not_come_again_in_a_child(tracking):
    tracking.invalidate([entry(b"2a")] * 5)
    seen = tracking.ticket(b"2a").generation
    tracking.reset()
    tracking.begin(FAR)
    for _ in range(10):
        tracking.invalidate([entry(b"2a")])
        assert tracking.ticket(b"2a").generation > seen


def test_server_is_asked_for_exact_keys_of_few_shards_and_for_all_of_many():
    assert prefixes("app", 1) == [b"{app:0}:e:", b"{app:0}:g:", b"{app:0}:v"]
    assert prefixes("app", NARROW + 1) == [b"{app:"]


# -- Line --


def line_of(tracking, *, is_cluster=False):
    line = Line(tracking, [b"{app:"], is_cluster=is_cluster)
    assert line.greeting() == encode(b"CLIENT", b"TRACKING", b"ON", b"BCAST", b"PREFIX", b"{app:")
    line.receive(b"+OK\r\n")
    return line


def test_line_is_good_for_a_second_from_when_the_sign_of_life_was_asked_for(tracking):
    line = line_of(tracking)
    assert line.good_until == -FAR
    assert line.beat(100.0) == encode(b"PING")
    assert line.beat(100.9) == b""
    line.receive(b"+PONG\r\n")

    assert line.good_until == 100.0 + TRUST
    assert line.beat(100.0 + BEAT / 2) == b""
    assert line.beat(100.0 + BEAT) == encode(b"PING")


def test_line_asks_for_nothing_before_the_server_has_agreed(tracking):
    line = Line(tracking, [b"{app:"], is_cluster=False)
    line.greeting()

    assert line.beat(100.0) == b""


def test_line_without_an_answer_for_a_second_is_lost(tracking):
    line = line_of(tracking)
    line.beat(100.0)
    assert line.beat(100.0 + TRUST) == b""
    with pytest.raises(LineLostError, match="sign of life"):
        line.beat(100.1 + TRUST)


def test_line_tells_of_changes_in_any_pieces(tracking):
    line, ticket = line_of(tracking), tracking.ticket(b"2a")
    said = b">2\r\n$10\r\ninvalidate\r\n*2\r\n$12\r\n{app:0}:e:2a\r\n$12\r\n{app:0}:e:2b\r\n"
    for at in range(len(said) - 1):
        line.receive(said[at : at + 1])
    other = tracking.ticket(b"2b")
    line.receive(said[-1:])

    assert not is_good(ticket)
    assert not is_good(other)
    line.receive(b">2\r\n$10\r\ninvalidate\r\n_\r\n")
    assert not is_good(tracking.ticket(b"2a")) or tracking.ticket(b"2a").source is not ticket.source


def test_line_that_is_refused_is_lost(tracking):
    line = Line(tracking, [b"{app:"], is_cluster=False)
    with pytest.raises(LineLostError, match="NOPERM"):
        line.receive(b"-NOPERM this user has no permissions\r\n")


@pytest.mark.parametrize(
    "said",
    [
        b">1\r\n+invalidate\r\n",
        b">2\r\n+invalidate\r\n:5\r\n",
        b">2\r\n+invalidate\r\n*1\r\n:5\r\n",
        b">3\r\n+invalidate\r\n_\r\n_\r\n",
    ],
)
def test_line_that_tells_of_no_keys_is_lost(tracking, said):
    with pytest.raises(LineLostError, match="keys"):
        line_of(tracking).receive(said)


@pytest.mark.parametrize("said", [b">2\r\n+message\r\n:5\r\n", b">0\r\n"])
def test_line_ignores_what_else_is_said(tracking, said):
    ticket = tracking.ticket(b"2a")
    line_of(tracking).receive(said)

    assert is_good(ticket)


def test_line_to_a_cluster_that_does_not_tell_its_state_is_lost(tracking):
    line = line_of(tracking, is_cluster=True)
    line.beat(100.0)
    with pytest.raises(LineLostError, match="cluster"):
        line.receive(b":999999999999\r\n")


def test_line_to_a_cluster_whose_masters_change_is_lost(tracking):
    line = line_of(tracking, is_cluster=True)
    told = b"cluster_state:ok\r\ncluster_known_nodes:4\r\ncluster_current_epoch:%d\r\n"
    for epoch in (7, 7):
        line.beat(line.good_until + BEAT if line.good_until > 0 else 100.0)
        text = told % epoch
        line.receive(b"=%d\r\ntxt:%s\r\n" % (len(text) + 4, text))
    line.beat(200.0)
    text = told % 8
    with pytest.raises(LineLostError, match="masters"):
        line.receive(b"$%d\r\n%s\r\n" % (len(text), text))


# -- The protocol --

MESSAGES = [
    (b"+OK\r\n", b"OK"),
    (b":-3\r\n", -3),
    (b"(12345678901234567890\r\n", 12345678901234567890),
    (b",1.5\r\n", 1.5),
    (b"#t\r\n", True),
    (b"_\r\n", None),
    (b"$-1\r\n", None),
    (b"$0\r\n\r\n", b""),
    (b"$4\r\na\r\nb\r\n", b"a\r\nb"),
    (b"=7\r\ntxt:abc\r\n", b"abc"),
    (b"*-1\r\n", []),
    (b"*2\r\n:1\r\n*1\r\n$1\r\nx\r\n", [1, [b"x"]]),
    (b"~1\r\n#f\r\n", [False]),
    (b"%1\r\n+a\r\n:1\r\n", [b"a", 1]),
    (b"|1\r\n+ttl\r\n:1\r\n+OK\r\n", b"OK"),
    (b">2\r\n+invalidate\r\n_\r\n", Push([b"invalidate", None])),
]


@pytest.mark.parametrize(("said", "meant"), MESSAGES)
def test_decoder_reads_every_kind_of_message(said, meant):
    (found,) = Decoder().feed(said)

    assert found == meant
    assert isinstance(found, Push) == isinstance(meant, Push)


def test_decoder_reads_messages_in_any_pieces():
    said = b"".join(said for said, _ in MESSAGES) * 3
    for seed in range(50):
        dice, decoder, found, at = random.Random(seed), Decoder(), [], 0
        while at < len(said):
            size = dice.randint(1, 30)
            found += decoder.feed(said[at : at + size])
            at += size

        assert found == [meant for _, meant in MESSAGES] * 3


@pytest.mark.parametrize("said", [b"-ERR no\r\n", b"!6\r\nERR no\r\n"])
def test_decoder_returns_errors_of_the_server(said):
    (found,) = Decoder().feed(said)

    assert isinstance(found, Refused)
    assert found.text == "ERR no"


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\n",
        b"$x\r\n",
        b"$-2\r\n",
        b"$99999999999\r\n",
        b"*99999999999\r\n",
        b"*1\r\n" * (DEEPEST + 2),
        b"\r\n",
    ],
)
def test_decoder_refuses_what_is_no_message(said):
    with pytest.raises(ValueError, match=r"."):
        Decoder().feed(said)


def test_decoder_takes_long_texts_without_copying_them_for_each_piece():
    decoder, size = Decoder(), 20_000_000
    decoder.feed(b"$%d\r\n" % size)
    found = []
    for _ in range(size // 10_000):
        found += decoder.feed(b"x" * 10_000)
    assert found == []
    assert decoder.feed(b"\r\n") == [b"x" * size]
