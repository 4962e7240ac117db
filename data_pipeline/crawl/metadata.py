"""What a page says about itself: robots, licence, and images of OpenGraph, JSON-LD and microdata.

Everything here is written by the page's author for machines, and may be about another page.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_JSON_CHARACTERS = 256 << 10
"""Longest JSON-LD script that is read."""

_MAX_NODES = 2_000
_MAX_METAS = 500
_IMAGE_NAMES = (
    *("og:image", "og:image:url", "og:image:secure_url"),
    *("twitter:image", "twitter:image:src"),
)
_LICENCE_NAMES = ("dc.rights", "dcterms.license", "dcterms.rights", "cc:license", "license")

Attributes = Mapping[str, str | None]


@dataclass(slots=True)
class HeadImage:
    """An image that only metadata names, as written there, with the texts given for it."""

    address: str
    texts: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Metadata:
    """Collects a page's metas and JSON-LD; nothing in it is checked yet."""

    robots: list[tuple[str, str]] = field(default_factory=list)
    licence: str | None = None
    title: str = ""
    description: str = ""
    images: list[HeadImage] = field(default_factory=list)

    def add_meta(self, attributes: Attributes, parent: Attributes) -> None:
        """Take one meta element, and the attributes of its parent if it has an itemprop."""
        content = (attributes.get("content") or "").strip()
        name = (attributes.get("name") or attributes.get("property") or "").strip().lower()
        if content and name:
            self.add(name, content)
        if content and attributes.get("itemprop"):
            self.add_item(attributes, parent, content)

    def add_item(self, attributes: Attributes, parent: Attributes, address: str | None) -> None:
        """Take an element with an itemprop, if it is the image of something: `itemprop=image`.

        Or the address inside of an element that is: `itemprop=url`.
        """
        names = _item_names(attributes)
        if address:
            inside = "url" in names or "contenturl" in names
            if "image" in names or (inside and "image" in _item_names(parent)):
                self.add_image(address)

    def add_image(self, address: str) -> None:
        """Take the address of an image, as written."""
        if len(self.images) < _MAX_METAS:
            self.images.append(HeadImage(address))

    def add(self, name: str, content: str) -> None:
        """Take a meta by its name or property, in lower case, and its content."""
        if ":" not in name and "." not in name:
            # Any bare name may be that of a crawler, so that its content may be robots rules.
            if len(self.robots) < _MAX_METAS:
                self.robots.append((name, content[:500]))
        elif name in _IMAGE_NAMES:
            self.add_image(content)
        elif name in ("og:image:alt", "twitter:image:alt"):
            if self.images:
                self.images[-1].texts.append(content)
        elif name == "og:title":
            self.title = self.title or content
        elif name == "og:description":
            self.description = self.description or content
        if name in _LICENCE_NAMES:
            self.licence = self.licence or content[:500]

    def add_json(self, text: str) -> None:
        """Take one JSON-LD script; what is no JSON, too long or too deep is passed over."""
        if len(text) > MAX_JSON_CHARACTERS:
            return
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return
        waiting: list[Any] = [value]
        for _ in range(_MAX_NODES):
            if not waiting:
                return
            current = waiting.pop()
            if isinstance(current, list):
                waiting.extend(reversed(current[:_MAX_NODES]))
            elif isinstance(current, dict):
                self._add_thing(current)
                waiting.extend(
                    value
                    for key, value in reversed(list(current.items())[:200])
                    if isinstance(value, dict | list) and key not in ("image", "logo")
                )

    def _add_thing(self, thing: dict[str, Any]) -> None:
        """Take the image and the licence of one JSON-LD object."""
        licence = thing.get("license")
        if isinstance(licence, str) and not self.licence:
            self.licence = licence[:500]
        kind = thing.get("@type")
        if kind == "ImageObject" or (isinstance(kind, list) and "ImageObject" in kind):
            self._add_image(thing, [])
        images = thing.get("image")
        names = [text for key in ("name", "headline") if isinstance(text := thing.get(key), str)]
        for image in (images if isinstance(images, list) else [images])[:20]:
            self._add_image(image, names)

    def _add_image(self, image: Any, names: list[str]) -> None:
        texts: list[str] = []
        if isinstance(image, dict):
            texts = [text for key in ("caption", "name") if isinstance(text := image.get(key), str)]
            image = image.get("contentUrl") or image.get("url")
        if isinstance(image, str) and len(self.images) < _MAX_METAS:
            self.images.append(HeadImage(image, [*texts, *names]))


def _item_names(attributes: Attributes) -> list[str]:
    """Return what an element is of the thing that microdata describe, in lower case."""
    return (attributes.get("itemprop") or "")[:500].lower().split()
