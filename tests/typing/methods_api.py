"""What type checkers know about memoized functions in classes. Checked, never run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator
from typing import Any, assert_type

from diskcache import AsyncCache, Cache, memoize_stampede

CACHE = Cache()
AWAITED = AsyncCache()


class Shop:
    @CACHE.memoize(ignore={"self"})
    def price(self, article: str, amount: int = 1) -> float:
        return len(article) * float(amount)

    @classmethod
    @CACHE.memoize(ignore={"cls"})
    def rate(cls, country: str, *, day: int = 0) -> float:
        return len(country) + float(day)

    @CACHE.memoize(ignore={"cls"})
    @classmethod
    def rate_below(cls, country: str, *, day: int = 0) -> float:
        return len(country) + float(day)

    @staticmethod
    @CACHE.memoize()
    def tax(amount: float, country: str = "") -> float:
        return amount * len(country)

    @CACHE.memoize()
    @staticmethod
    def tax_below(amount: float, country: str = "") -> float:
        return amount * len(country)

    @staticmethod
    @CACHE.memoize()
    def name() -> str:
        return ""

    @staticmethod
    @CACHE.memoize()
    def about(kind: type[int]) -> str:
        return kind.__name__

    @CACHE.memoize()
    def articles(self, letter: str) -> Iterator[str]:
        yield letter

    @classmethod
    @CACHE.memoize()
    def countries(cls, letter: str) -> Iterator[str]:
        yield letter

    @memoize_stampede(CACHE, expire=60)
    def page(self, language: str) -> str:
        return language


def methods(shop: Shop) -> None:
    assert_type(shop.price("x", 2), float)
    assert_type(shop.price("x", amount=2), float)
    assert_type(Shop.price(shop, "x"), float)
    assert_type(Shop.price.__cache_key__(shop, "x"), tuple[Any, ...])
    assert_type(Shop.price.invalidate(shop, "x", amount=2), bool)
    assert_type(Shop.price.refresh(shop, "x"), float)
    assert_type(list(shop.articles("a")), list[str])
    assert_type(list(Shop.articles(shop, "a")), list[str])
    shop.price(1)  # type: ignore[arg-type]
    shop.price()  # type: ignore[call-arg]
    Shop.price("x")  # type: ignore[call-arg, arg-type]


def class_methods(shop: Shop) -> None:
    assert_type(Shop.rate("de", day=1), float)
    assert_type(shop.rate("de", day=1), float)
    assert_type(Shop.rate_below("de", day=1), float)
    assert_type(shop.rate_below("de"), float)
    assert_type(Shop.rate.invalidate(Shop, "de", day=1), bool)
    assert_type(Shop.rate.refresh(Shop, "de"), float)
    assert_type(Shop.rate.bypass(Shop, "de"), float)
    assert_type(Shop.rate_below.__cache_key__(Shop, "de"), tuple[Any, ...])
    assert_type(Shop.rate.clear(), int)
    assert_type(list(Shop.countries("a")), list[str])
    Shop.rate(1)  # type: ignore[arg-type]
    shop.rate()  # type: ignore[call-arg]
    Shop.rate.invalidate("de")  # type: ignore[call-arg, arg-type]


def static_methods(shop: Shop) -> None:
    assert_type(Shop.tax(1.0, country="de"), float)
    assert_type(shop.tax(1.0, country="de"), float)
    assert_type(Shop.tax_below(1.0, "de"), float)
    assert_type(shop.tax_below(1.0), float)
    assert_type(Shop.tax.invalidate(1.0, country="de"), bool)
    assert_type(shop.tax.refresh(1.0), float)
    assert_type(Shop.name(), str)
    assert_type(shop.name(), str)
    assert_type(Shop.about(int), str)
    assert_type(shop.about(int), str)
    Shop.tax("x")  # type: ignore[arg-type]
    shop.tax()  # type: ignore[call-arg]


class Special(Shop):
    pass


def inherited(special: Special) -> None:
    assert_type(special.price("x"), float)
    assert_type(Special.rate("de"), float)
    assert_type(special.rate("de"), float)
    assert_type(Special.rate.invalidate(Special, "de"), bool)
    assert_type(special.tax(1.0), float)


def renewed(shop: Shop) -> None:
    assert_type(shop.page("en"), str)
    assert_type(Shop.page(shop, "en"), str)
    assert_type(Shop.page.__cache_key__(shop, "en"), tuple[Any, ...])
    # It has a key, but none of the functions that control what `memoize` decorates.
    Shop.page.invalidate(shop, "en")  # type: ignore[attr-defined]


class Site:
    @CACHE.memoize()
    async def fetch(self, path: str) -> bytes:
        return path.encode()

    @classmethod
    @AWAITED.memoize()
    async def open(cls, path: str) -> bytes:
        return path.encode()

    @CACHE.memoize()
    @classmethod
    async def open_below(cls, path: str) -> bytes:
        return path.encode()

    @staticmethod
    @CACHE.memoize()
    async def ping(host: str) -> float:
        return float(len(host))

    @CACHE.memoize()
    async def lines(self, path: str) -> AsyncIterator[str]:
        yield path

    @classmethod
    @CACHE.memoize()
    async def pages(cls, path: str) -> AsyncGenerator[str, None]:
        yield path

    @staticmethod
    @CACHE.memoize()
    async def words(text: str) -> AsyncIterator[str]:
        yield text


async def awaited(site: Site) -> None:
    made: Coroutine[Any, Any, bytes] = site.fetch("a")
    assert_type(await made, bytes)
    assert_type(await Site.fetch(site, "a"), bytes)
    assert_type(await Site.fetch.refresh(site, "a"), bytes)
    assert_type(await Site.open("a"), bytes)
    assert_type(await site.open("a"), bytes)
    assert_type(await Site.open_below("a"), bytes)
    assert_type(await Site.open.invalidate(Site, "a"), bool)
    assert_type(await Site.open.refresh(Site, "a"), bytes)
    assert_type(await Site.ping("a"), float)
    assert_type(await site.ping("a"), float)
    assert_type(await Site.ping.invalidate("a"), bool)
    await site.fetch(1)  # type: ignore[arg-type]
    await site.open()  # type: ignore[call-arg]


async def generated(site: Site) -> None:
    assert_type([line async for line in site.lines("a")], list[str])
    assert_type([page async for page in Site.pages("a")], list[str])
    assert_type([page async for page in site.pages("a")], list[str])
    assert_type([word async for word in Site.words("a")], list[str])
    assert_type([word async for word in site.words("a")], list[str])
    assert_type(await Site.pages.invalidate(Site, "a"), bool)
    async for page in await Site.pages.refresh(Site, "a"):
        assert_type(page, str)
