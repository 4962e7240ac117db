"""Which pictures the demo's web shows, with which texts, how delivered, and what ails each.

An item is one picture as some page shows it. The cast is drawn before any page exists: `layout`
gives each item its page and its address.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from trawl.chance import generator
from trawl.demo.copies import (
    ORIGINAL,
    ImageFile,
    Variant,
    scaled,
    strip_size,
    with_shorter_side,
)
from trawl.demo.deliveries import DELIVERIES
from trawl.demo.graphics import CONTENT_KINDS, graphic_format, graphic_size
from trawl.demo.junk_texts import graphic_text, placeholder_text, spam_text
from trawl.demo.languages import FOREIGN, foreign_caption
from trawl.demo.prose import Chance, pick
from trawl.demo.scene_book import SceneBook

Size = tuple[int, int]


@dataclass(frozen=True)
class Texts:
    """The texts of an item: None is an attribute or element that is not there.

    `beside` is a sentence in the paragraph next to the picture; `filler` says that paragraphs which
    are not about the picture stand around it.
    """

    alt: str | None = None
    title: str | None = None
    figcaption: str | None = None
    aria: str | None = None
    beside: str | None = None
    filler: bool = False


@dataclass(frozen=True)
class Item:
    """One picture as a page shows it. Without faults it is keepable.

    `room` names the kind of page that it stands on, `delivery` what its address does, `copy` what
    it is to the other items of its picture; `size` is in pixels, as fetched.
    """

    file: ImageFile
    size: Size
    texts: Texts
    true_texts: tuple[str, ...] = ()
    faults: frozenset[str] = frozenset()
    room: str = "plain"
    delivery: str = "plain"
    copy: str = "original"
    markup: str = "plain"
    address: str = "root"


@dataclass(frozen=True)
class Amounts:
    """How many items of each sort a web with `scenes` keepable pictures has."""

    scenes: int

    def of(self, share: float, least: int) -> int:
        """Return `share` of the scenes, `least` at least."""
        return max(least, round(self.scenes * share))


_TEXT_WAYS = (
    *(("alt", 0.30), ("figcaption", 0.18), ("title", 0.08), ("beside", 0.18), ("aria", 0.03)),
    *(("alt figcaption", 0.10), ("alt beside", 0.08), ("alt junk-title", 0.05)),
)
_MARKUPS = (
    *(("plain", 0.46), ("srcset-w", 0.12), ("srcset-x", 0.06), ("picture", 0.08), ("lazy", 0.12)),
    *(("lazy-srcset", 0.05), ("noscript", 0.05), ("linked", 0.06)),
)
_ADDRESSES = (
    *("root",) * 7,
    *("relative",) * 6,
    *("full",) * 3,
    *("protocol",) * 3,
    *("query", "space", "backslash", "fragment", "capitals", "padded"),
)
_SMALLEST = 301
# What is left beside a picture without a text of its own is a heading or filler.
_PLACEHOLDER = ("placeholder", "too-short", "wrong-text")
_STOCK_SHARE = 1 / 7


def _weighted(chance: Chance, choices: tuple[tuple[str, float], ...]) -> str:
    names, weights = zip(*choices, strict=True)
    return str(names[int(chance.choice(len(names), p=np.array(weights) / sum(weights)))])


class Cast:
    """Draws the items of a web, one sort after another, from one generator."""

    def __init__(self, seed: int, scenes: int) -> None:
        self.seed = seed
        self.amounts = Amounts(scenes)
        self.chance = generator(seed, "cast", scenes)
        self.book = SceneBook(seed, scenes)
        self._addresses: list[str] = []

    def items(self) -> list[Item]:
        """Return every item, the same list for the same seed and number of scenes."""
        good = list(self._good())
        parts = (
            good,
            self._copies(good),
            self._badly_told(),
            self._foreign(),
            self._badly_sized(),
            self._forbidden(),
            self._undeliverable(),
            self._stock(),
            self._graphics(),
        )
        return [item for part in parts for item in part]

    def _address(self) -> str:
        """Return how an address is written; the rarest ways are in every small web as well."""
        if not self._addresses:
            order = self.chance.permutation(len(_ADDRESSES))
            self._addresses = [_ADDRESSES[int(place)] for place in order]
        return self._addresses.pop()

    def _texts(self, way: str, true_texts: list[str]) -> Texts:
        """Lay the true texts into the fields that `way` names; the rest is empty or junk."""
        chance = self.chance
        names = [name for name in way.split() if name != "junk-title"]
        fields: dict[str, str | None] = dict(zip(names, true_texts, strict=False))
        if "alt" not in fields:
            fields["alt"] = pick(chance, (None, "", placeholder_text(chance)))
        if "junk-title" in way:
            fields["title"] = pick(chance, (spam_text(chance), placeholder_text(chance)))
        return Texts(**fields, filler="beside" in fields or bool(chance.random() < 0.6))

    def _scene(
        self,
        index: int,
        variant: Variant = ORIGINAL,
        *,
        faults: tuple[str, ...] = (),
        texts: Texts | None = None,
        **more: str,
    ) -> Item:
        """Return an item that shows scene `index`, with true texts unless `texts` are given."""
        true_texts: list[str] = []
        if texts is None:
            way = _weighted(self.chance, _TEXT_WAYS)
            true_texts = self.book.true_texts(index, len(way.split()))
            texts = self._texts(way, true_texts)
        delivery = more.get("delivery", "plain")
        plain = delivery == "plain"
        more.setdefault("markup", _weighted(self.chance, _MARKUPS) if plain else "plain")
        more.setdefault("address", self._address() if plain else "full")
        fault = DELIVERIES[delivery].fault
        return Item(
            file=ImageFile("scene", index, variant),
            size=variant.size or self.book.size(index),
            texts=texts,
            true_texts=tuple(true_texts),
            faults=frozenset(faults) | ({fault} if fault else frozenset()),
            **more,
        )

    def _good(self) -> Iterator[Item]:
        """The keepable pictures, some of them delivered or encoded unusually."""
        amounts, scenes = self.amounts, self.amounts.scenes
        unusual = [
            *["redirect"] * amounts.of(0.015, 2),
            *["text-plain", "octet-stream"] * amounts.of(0.006, 1),
            *["delay"] * min(amounts.of(0.03, 2), 16),
            *["transient-503"] * min(amounts.of(0.004, 2), 5),
            "transient-429",
            *["cdn"] * amounts.of(0.08, 3),
            *["edge"] * amounts.of(0.01, 2),
            *["webp"] * amounts.of(0.015, 1),
            *["png"] * amounts.of(0.005, 1),
        ]
        ways = dict(zip(map(int, self.chance.permutation(scenes)), unusual, strict=False))
        for index in range(scenes):
            way = ways.get(index, "plain")
            if way == "edge":
                size = with_shorter_side(self.book.size(index), _SMALLEST)
                yield self._scene(index, Variant("edge", size))
            elif way in ("webp", "png"):
                yield self._scene(index, Variant("original", encoding=way))
            else:
                yield self._scene(index, delivery=way)

    def _copies(self, good: list[Item]) -> Iterator[Item]:
        """Further items of keepable pictures: of them and the first, one may be kept."""
        plain = [
            item
            for item in good
            if (item.delivery, item.markup, item.file.variant) == ("plain", "plain", ORIGINAL)
        ]
        wanted = [
            *["identical"] * self.amounts.of(0.08, 2),
            *["same-address"] * self.amounts.of(0.03, 1),
            *["re-encoded"] * self.amounts.of(0.06, 2),
            *["resized"] * self.amounts.of(0.06, 2),
            *["cropped"] * self.amounts.of(0.05, 2),
            *["badly-told"] * self.amounts.of(0.02, 1),
            *["thumbnail"] * self.amounts.of(0.06, 4),
        ]
        for way in wanted:
            index = pick(self.chance, plain).file.index
            variant = self._variant(way, index)
            if way == "badly-told":
                text = placeholder_text(self.chance)
                told = Texts(alt=text)
                yield self._scene(index, texts=told, faults=_PLACEHOLDER, copy="identical")
            elif way == "thumbnail":
                yield self._scene(index, variant, faults=("too-small",), copy=way, markup="plain")
            elif way == "same-address":
                yield self._scene(index, delivery=way, copy="identical")
            else:
                yield self._scene(index, variant, copy=way)

    def _variant(self, way: str, index: int) -> Variant:
        """Return how the copy `way` of scene `index` is made."""
        chance, size = self.chance, self.book.size(index)
        if way == "re-encoded":
            quality = int(chance.integers(60, 81))
            return Variant(f"q{quality}", quality=quality)
        if way == "resized":
            least = _SMALLEST / min(size)
            down, up = chance.uniform(max(0.7, least), 0.95), chance.uniform(1.05, 1.3)
            size = scaled(size, float(pick(chance, (down, up))))
            return Variant(f"{size[0]}x{size[1]}", size)
        if way == "cropped":
            per_mille = int(chance.integers(10, 16))
            columns, rows = (side - 2 * max(1, round(side * per_mille / 1000)) for side in size)
            return Variant(f"crop{per_mille}", (columns, rows), crop=per_mille / 1000)
        if way == "thumbnail":
            size = with_shorter_side(size, int(pick(chance, (100, 120, 150, 180, 240, 299))))
            return Variant(f"{size[0]}x{size[1]}", size)
        return ORIGINAL

    def _badly_told(self) -> Iterator[Item]:
        """Pictures whose texts say nothing, too little, or what another picture shows."""
        chance, amounts, book = self.chance, self.amounts, self.book
        for _ in range(amounts.of(0.06, 5)):
            texts = Texts(alt=placeholder_text(chance), filler=bool(chance.random() < 0.4))
            yield self._scene(book.extra(), texts=texts, faults=_PLACEHOLDER)
        for _ in range(amounts.of(0.03, 3)):
            texts = Texts(alt=spam_text(chance), filler=bool(chance.random() < 0.4))
            yield self._scene(book.extra(), texts=texts, faults=("spam", "wrong-text"))
        for _ in range(amounts.of(0.04, 4)):
            told = foreign_caption(pick(chance, FOREIGN), chance)
            faults = ("foreign-language", "wrong-text")
            yield self._scene(book.extra(), texts=Texts(alt=told), faults=faults)
        for _ in range(amounts.of(0.02, 2)):
            texts = Texts(alt=pick(chance, (None, "")))
            yield self._scene(book.extra(), texts=texts, faults=("no-text", *_PLACEHOLDER))
        for _ in range(amounts.of(0.015, 2)):
            index = book.extra()
            texts = Texts(alt=book.short_text(index))
            yield self._scene(index, texts=texts, faults=("too-short", "wrong-text"))
        for _ in range(amounts.of(0.07, 4)):
            index = book.extra()
            way = _weighted(chance, _TEXT_WAYS)
            wrong = book.true_texts(book.stranger_to(index), len(way.split()))
            yield self._scene(index, texts=self._texts(way, wrong), faults=("wrong-text",))

    def _foreign(self) -> Iterator[Item]:
        """Pictures of pages that are not in English, a few of them with English texts."""
        for number in range(self.amounts.of(0.06, 8)):
            language = FOREIGN[number % len(FOREIGN)]
            texts = None
            if number % 5:
                told = foreign_caption(language, self.chance)
                texts = Texts(alt=told, filler=True)
            yield self._scene(
                self.book.extra(), texts=texts, faults=("page-language",), room=language
            )

    def _badly_sized(self) -> Iterator[Item]:
        """Well told pictures that are too small by one pixel, too wide or cut off."""
        for _ in range(self.amounts.of(0.012, 2)):
            index = self.book.extra()
            variant = Variant("edge", with_shorter_side(self.book.size(index), _SMALLEST - 1))
            yield self._scene(index, variant, faults=("too-small",), markup="plain")
        for _ in range(self.amounts.of(0.01, 2)):
            index = self.book.extra()
            variant = Variant("strip", strip_size(self.book.size(index)), strip=True)
            yield self._scene(index, variant, faults=("bad-aspect",), markup="plain")
        for _ in range(self.amounts.of(0.008, 2)):
            variant = Variant("cut-off", kept_bytes=float(self.chance.uniform(0.3, 0.6)))
            faults = ("truncated", "not-an-image")
            yield self._scene(self.book.extra(), variant, faults=faults, markup="plain")

    def _forbidden(self) -> Iterator[Item]:
        """Well told pictures that their owners do not want to be taken."""
        amounts = self.amounts
        ways = [("plain", "opt-out")] * amounts.of(0.03, 5)
        ways += [("plain", "private")] * amounts.of(0.012, 3)
        ways += [(way, "plain") for way in ("robots-folder", "robots-host") * amounts.of(0.01, 2)]
        ways += [(way, "plain") for way in ("noai", "noai-dated") * amounts.of(0.006, 2)]
        faults = {"opt-out": ("opt-out",), "private": ("robots",), "plain": ()}
        for delivery, room in ways:
            yield self._scene(self.book.extra(), delivery=delivery, room=room, faults=faults[room])

    def _undeliverable(self) -> Iterator[Item]:
        """Well told pictures that never arrive: their number hardly grows, for they cost time."""
        ways = [
            *["missing"] * self.amounts.of(0.015, 3),
            *("gone", "gone", "error", "error", "reset", "reset", "hang", "drip"),
            *("loop", "loop", "long-chain", "private-redirect", "private-redirect", "private"),
            *["html"] * self.amounts.of(0.006, 2),
            *["cut-short"] * min(self.amounts.of(0.006, 2), 6),
        ]
        for way in ways:
            yield self._scene(self.book.extra(), delivery=way)

    def _stock(self) -> Iterator[Item]:
        """Pictures that all have one caption; it is true of the first dozen and more of them."""
        kind, fitting, others = self.book.stock(self.amounts.of(_STOCK_SHARE, 12))
        told = f"Free stock photo with a {kind} for your own website"
        for index in (*fitting, *others):
            faults = ("text-too-common", "wrong-text") if index in others else ("text-too-common",)
            item = self._scene(index, texts=Texts(alt=told), faults=faults, room="stock")
            yield replace(item, true_texts=() if index in others else (told,))

    def _graphics(self) -> Iterator[Item]:
        """Charts, maps, screenshots and the like among the content."""
        for number in range(self.amounts.of(0.10, 2 * len(CONTENT_KINDS))):
            kind = CONTENT_KINDS[number % len(CONTENT_KINDS)]
            yield graphic_item(
                self.seed, kind, number, graphic_text(kind, self.chance), filler=number % 2 == 0
            )


def graphic_item(seed: int, kind: str, number: int, alt: str, filler: bool = False) -> Item:
    """Return the item that shows graphic `number` of `kind`."""
    size = graphic_size(seed, kind, number)
    faults = {"unnatural", "wrong-text"}
    faults |= {"too-small"} if min(size) < _SMALLEST else set()
    faults |= {"bad-aspect"} if max(size) > 4 * min(size) else set()
    if len(alt.split()) < 3:
        faults |= {"too-short", "placeholder"} if alt else {"no-text"}
    return Item(
        file=ImageFile(f"graphic-{kind}", number, Variant(encoding=graphic_format(kind))),
        size=size,
        texts=Texts(alt=alt, filler=filler),
        faults=frozenset(faults),
    )
