"""`register`: what it takes, what it refuses, and what becomes of the values."""

from __future__ import annotations

import dataclasses
import multiprocessing
import pickle
import sys
from decimal import Decimal

import pytest

from diskcache import (
    Cache,
    CodecError,
    Deque,
    FanoutCache,
    Index,
    NotPlainError,
    RegistrationError,
    UnavailableError,
    UnavailableWarning,
    register,
    unregister,
)
from diskcache.codecs import keys, plain
from diskcache.codecs import registered as tables
from tests.support import shapes
from tests.support.crew import in_processes
from tests.support.shapes import Access, Colour, Counted, Money, Order, Pair, Place, Size

KINDS = (Colour, Access, Size, Pair, Place, Order, Counted)
VALUES = [
    Colour.RED,
    Colour.BLUE,
    Access.READ | Access.WRITE,
    Access(0),
    Size.SMALL,
    Pair(1, [2.5, bytearray(b"x")]),
    Pair("\ud800", None),
    Place("here"),
    Order(1, (Colour.RED, {Place("x", 2): {Size.SMALL}}), "kept"),
    Counted("abc"),
    [Place("a"), Place("b")],
    {Colour.RED: {"deep": (Order(1),)}},
    (Place("t"),),
    pytest.param({Colour.RED, Colour.BLUE}, id="set of two"),
    slice(Size.SMALL, None),
]


@pytest.fixture(autouse=True)
def no_leftovers():
    """Fail a test that leaves a type registered."""
    before = dict(tables.BY_TYPE), dict(tables.BY_NAME)
    yield
    assert before == (tables.BY_TYPE, tables.BY_NAME)


@pytest.fixture
def kinds():
    with shapes.registered(*KINDS):
        yield


@pytest.fixture
def money():
    shapes.register_money()
    yield
    unregister(Money)


def same(found, value):
    return found == value and type(found) is type(value)


# -- Values --


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_registered_value_comes_back_equal_and_of_its_type(kinds, value):
    assert same(plain.loads(plain.dumps(value)), value)


def test_field_that_equality_ignores_comes_back_too(kinds):
    assert plain.loads(plain.dumps(Order(1, note="kept"))).note == "kept"


def test_field_outside_the_constructor_comes_back(kinds):
    value = Counted("abc")
    value.length = 99

    assert plain.loads(plain.dumps(value)).length == 99


def test_registered_value_needs_no_pickle(kinds, make_cache):
    cache = make_cache(pickle="never")
    cache[Place("key")] = Order(1, ("part",))
    cache["large"] = [Place("x" * 1000, n) for n in range(100)]

    assert cache[Place("key")] == Order(1, ("part",))
    assert cache["large"][99] == Place("x" * 1000, 99)
    assert next(iter(cache)) == Place("key")


def test_value_of_own_functions_comes_back(money, make_cache):
    cache = make_cache(pickle="never")
    cache["price"] = {"eur": [Money(250)]}

    assert cache["price"] == {"eur": [Money(250)]}


def test_state_may_hold_what_the_library_writes_otherwise(make_cache):
    kinds = []

    def loads(state):
        kinds.append(type(state))
        return Money(int(state))

    register(Money, lambda money: bytearray(b"%d" % money.cents), loads)
    try:
        assert plain.loads(plain.dumps([Money(7)])) == [Money(7)]
        assert kinds == [bytearray]
    finally:
        unregister(Money)


def test_values_nest_deeper_than_the_free_levels(kinds):
    value = None
    for number in range(60):
        value = Order(number, value)

    assert plain.loads(plain.dumps(value)) == value


def test_value_nested_too_deep_or_in_itself_is_refused(kinds):
    value = None
    for number in range(300):
        value = Order(number, value)
    endless = Counted("x")
    endless.name = endless

    for refused in (value, endless):
        with pytest.raises(NotPlainError):
            plain.dumps(refused)


def test_subclass_of_a_registered_type_is_not_registered(kinds, make_cache):
    class Further(Order):
        pass

    with pytest.raises(NotPlainError, match=r"registered is .*Order.*only that exact type"):
        make_cache(pickle="never")["k"] = Further(1)


def test_part_that_is_not_plain_is_named_with_its_place(kinds):
    with pytest.raises(NotPlainError, match=r"Money'> at value\[1\] \(state\)\['parts'\]"):
        plain.dumps([1, Order(1, Money(1))])


def test_error_of_dumps_reaches_the_caller(make_cache):
    def fails(_):
        raise LookupError("no state")

    register(Money, fails, Money)
    try:
        with pytest.raises(LookupError, match="no state"):
            make_cache()["k"] = Money(1)
    finally:
        unregister(Money)


# -- Keys --


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_key_encodes_to_itself_again(kinds, value):
    encoded = keys.encode_key(value)

    assert keys.encode_key(keys.decode_key(*encoded)) == encoded


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Order(1, 0.0), Order(1, -0.0)),
        (Order(1, {"b": 1, "a": 2}), Order(1, {"a": 2, "b": 1})),
        (Order(1, Decimal("1.0")), Order(1, Decimal("1.00"))),
        (Order(1, note="this"), Order(1, note="that")),
        (Colour.RED, Colour.CRIMSON),
        ((Place("a"), frozenset({Size.SMALL})), (Place("a"), frozenset({Size.SMALL}))),
    ],
    ids=repr,
)
def test_equal_keys_are_one_key(kinds, make_cache, one, other):
    cache = make_cache()
    cache[one] = "stored"

    assert one == other
    assert cache[other] == "stored"
    assert len(cache) == 1


def test_key_whose_equality_ignores_a_needed_field_is_not_plain():
    @dataclasses.dataclass(frozen=True)
    class Noted:
        number: int
        note: str = dataclasses.field(compare=False)

    with shapes.registered(Noted):
        assert plain.loads(plain.dumps(Noted(1, "n"))).note == "n"
        with pytest.raises(NotPlainError, match="ignores 'note'"):
            keys.encode_key(Noted(1, "n"))


def test_memoize_takes_registered_arguments(kinds, make_cache):
    cache = make_cache(pickle="never")
    calls = []

    @cache.memoize()
    def total(order, *, colour):
        calls.append(order)
        return order.number

    assert [total(Order(3), colour=Colour.RED) for _ in range(2)] == [3, 3]
    assert len(calls) == 1


def test_registered_keys_find_their_shard(kinds, tmp_path):
    with FanoutCache(tmp_path, shards=4, pickle="never") as cache:
        for number in range(20):
            cache[Place("x", number)] = Order(number)
        assert [cache[Place("x", number)] for number in range(20)] == list(map(Order, range(20)))
        assert cache.info().unavailable == 0


# -- A registration that is missing --


@pytest.fixture
def stored(directory):
    """A directory with a value, and one with a key, of a type that is not registered any more."""
    shapes.register_money()
    with Cache(directory) as cache:
        cache["price"] = [Money(250)]
        cache["other"] = 1
        cache[Money(3)] = "by key"
    unregister(Money)
    return directory


def test_missing_registration_is_a_miss_counted_and_told_once(stored, make_cache):
    cache = make_cache(stored)

    with pytest.warns(UnavailableWarning, match=r"'money'.*diskcache.register") as caught:
        assert cache.get("price", "missing") == "missing"
        assert cache.get("price") is None
        assert cache.pop("price", "kept") == "kept"
        assert list(cache) == ["price", "other"]
    assert len(caught) == 1
    assert cache.info().unavailable == 4
    assert cache.info().corrupt == 0
    assert len(cache) == 3


def test_missing_registration_raises_where_strictness_is_asked_for(stored, make_cache):
    cache = make_cache(stored, strict=True)

    with pytest.raises(UnavailableError, match="'money'"):
        cache["price"]


def test_registering_again_brings_the_entry_back(stored, make_cache):
    shapes.register_money()
    try:
        cache = make_cache(stored)
        assert cache["price"] == [Money(250)]
        assert cache[Money(3)] == "by key"
    finally:
        unregister(Money)


def test_missing_registration_raises_in_an_index_and_keeps_the_entry(stored):
    with Index(stored) as index:
        with pytest.raises(UnavailableError, match=r"price.* is kept.*'money'"):
            index["price"]
        with pytest.raises(UnavailableError):
            index.pop("price")
        with pytest.raises(UnavailableError):
            list(index)
        assert len(index) == 3
        assert index["other"] == 1


def test_missing_registration_raises_in_a_deque_and_keeps_the_item(tmp_path, money):
    deque = Deque([Money(1)], directory=tmp_path / "deque")
    unregister(Money)
    try:
        with pytest.raises(UnavailableError, match="'money'"):
            deque.popleft()
        assert len(deque) == 1
    finally:
        shapes.register_money()
    assert deque.popleft() == Money(1)
    deque.cache.close()


# -- Data that loads must not believe --


def hostile(state):
    import ormsgpack

    return ormsgpack.packb(ormsgpack.Ext(33, ormsgpack.packb(state)))


@pytest.mark.parametrize(
    "state",
    [
        ["money", "text"],
        ["money"],
        ["money", 1, 2],
        [1, 2],
        "money",
        [["money"], 1],
        ["tests.support.shapes.Colour", "GREEN"],
        ["tests.support.shapes.Colour", []],
        ["tests.support.shapes.Access", "READ"],
        ["tests.support.shapes.Access", 1 << 40],
        ["tests.support.shapes.Place", {"name": "x", "other": 1}],
        ["tests.support.shapes.Place", {"floor": 1}],
        ["tests.support.shapes.Place", 5],
        ["tests.support.shapes.Order", {"number": 1, "__class__": 1}],
        ["tests.support.shapes.Order", [1]],
        ["tests.support.shapes.Order", {}],
        ["os.system", "true"],
    ],
    ids=repr,
)
def test_state_that_makes_no_sense_is_a_codec_error(kinds, money, state):
    with pytest.raises(CodecError):
        plain.loads(hostile(state))


def test_error_of_loads_is_told_by_name(money):
    with pytest.raises(CodecError, match="TypeError: cents must be an int"):
        plain.loads(hostile(["money", "text"]))


def test_state_that_takes_too_much_memory_is_a_codec_error():
    def greedy(_):
        raise MemoryError

    register(Money, shapes.money_state, greedy)
    try:
        with pytest.raises(CodecError, match="MemoryError"):
            plain.loads(plain.dumps(Money(1)))
    finally:
        unregister(Money)


def test_interrupt_in_loads_is_not_taken_for_damage():
    def interrupted(_):
        raise KeyboardInterrupt

    register(Money, shapes.money_state, interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            plain.loads(plain.dumps(Money(1)))
    finally:
        unregister(Money)


def test_loads_that_returns_another_type_is_a_codec_error():
    register(Money, shapes.money_state, str)
    try:
        with pytest.raises(CodecError, match=r"must return .*Money.*got .*str"):
            plain.loads(plain.dumps(Money(1)))
    finally:
        unregister(Money)


def test_earlier_trouble_is_not_told_of_a_later_one(money):
    with pytest.raises(CodecError, match="cents"):
        plain.loads(hostile(["money", "text"]))
    with pytest.raises(CodecError) as caught:
        plain.loads(b"\xc1")
    assert "cents" not in str(caught.value)


# -- What register refuses --


@pytest.mark.parametrize("kind", [1, "Money", None, list[int], shapes.money_state])
def test_register_refuses_what_is_no_type(kind):
    with pytest.raises(RegistrationError, match="takes a type"):
        register(kind)


@pytest.mark.parametrize("kind", [int, str, dict, Decimal, type, bytearray, memoryview])
def test_register_refuses_what_is_plain_already(kind):
    with pytest.raises(RegistrationError, match="encoding of its own"):
        register(kind, str, str)


def test_register_twice_is_an_error(money):
    with pytest.raises(RegistrationError, match="registered already, as 'money'"):
        shapes.register_money("other")


def test_register_a_name_twice_is_an_error(money):
    with pytest.raises(RegistrationError, match=r"'money' is that of .*Money"):
        register(Place, name="money")


@pytest.mark.parametrize("name", ["", " x", "x\n", "x" * 256, 5])
def test_register_refuses_a_name_that_is_none(name):
    with pytest.raises(RegistrationError, match="printable str"):
        register(Place, name=name)


@pytest.mark.parametrize("functions", [(str, None), (None, str), (1, str), (str, 1)], ids=repr)
def test_register_refuses_half_or_no_functions(functions):
    with pytest.raises(RegistrationError):
        register(Money, *functions)


def test_register_cannot_derive_any_class():
    with pytest.raises(RegistrationError, match=r"cannot derive .*Money.*pass dumps and loads"):
        register(Money)


def test_register_refuses_a_dataclass_that_takes_more_than_its_fields():
    @dataclasses.dataclass
    class Made:
        a: int
        seed: dataclasses.InitVar[int] = 0

    with pytest.raises(RegistrationError, match="InitVar"):
        register(Made)


def test_register_does_not_derive_for_a_plain_subclass_of_a_dataclass():
    class Further(Order):
        pass

    with pytest.raises(RegistrationError, match="cannot derive"):
        register(Further)


def test_unregister_of_an_unknown_type_is_an_error():
    for kind in (Money, 5):
        with pytest.raises(RegistrationError, match="is not registered"):
            unregister(kind)


def test_register_is_a_decorator():
    @register
    class Letter(shapes.enum.Enum):
        A = 1

    try:
        assert plain.loads(plain.dumps(Letter.A)) is Letter.A
    finally:
        unregister(Letter)


def test_register_imports_nothing(money):
    import subprocess

    program = (
        "import sys, diskcache, enum\n"
        "class E(enum.Enum): A = 1\n"
        "diskcache.register(E)\n"
        "print(*{'attr','attrs','pydantic','numpy','pandas','polars','pyarrow'} & set(sys.modules))"
    )
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    ).stdout

    assert out.strip() == ""


# -- Processes --


def read_price(directory):
    with Cache(directory) as cache:
        return cache["price"][0].cents


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_forked_child_has_the_registrations_of_its_parent(money, directory):
    with Cache(directory) as cache:
        cache["price"] = [Money(250)]

    assert in_processes(read_price, [(directory,)]) == [250]


def test_error_classes_survive_pickling():
    for error in (RegistrationError("no"), UnavailableError("no")):
        assert str(pickle.loads(pickle.dumps(error))) == "no"


# -- Classes of libraries --


def test_attrs_classes_come_back():
    attrs = pytest.importorskip("attrs")

    @attrs.frozen
    class Private:
        _x: int
        tags: list = attrs.field(factory=list)
        size: int = attrs.field(init=False, default=0, eq=False)

    with shapes.registered(Private):
        value = Private(1, ["a"])
        assert same(plain.loads(plain.dumps(value)), value)
        assert keys.encode_key((value,))[0] == keys.encode_key((Private(1, ["a"]),))[0]


def test_pydantic_models_come_back_validated():
    pydantic = pytest.importorskip("pydantic")

    class Inner(pydantic.BaseModel):
        when: Decimal

    class Model(pydantic.BaseModel):
        number: int = pydantic.Field(alias="Number", gt=0)
        parts: tuple[Inner, ...] = ()

    with shapes.registered(Model):
        value = Model(Number=1, parts=(Inner(when="1.50"),))
        assert same(plain.loads(plain.dumps(value)), value)
        name = f"{Model.__module__}.{Model.__qualname__}"
        for state in ({"number": -1}, [1], {"number": "x"}):
            with pytest.raises(CodecError):
                plain.loads(hostile([name, state]))


def test_pydantic_model_with_private_attributes_is_refused():
    pydantic = pytest.importorskip("pydantic")

    class Secretive(pydantic.BaseModel):
        _hidden: int = 1

    with pytest.raises(RegistrationError, match="private attributes"):
        register(Secretive)
