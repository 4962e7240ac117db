"""How pages write a picture: plain, responsive, lazy, linked; and with which attributes."""

from html import escape

from trawl.demo.addresses import as_written
from trawl.demo.layout import Page, Placed
from trawl.demo.prose import Chance, pick

_BLANK = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
_LAZY_ATTRIBUTES = ("data-src", "data-original", "data-lazy-src")
_WITH_SPACES = ("space", "padded")  # which would end an address in a srcset


def attribute(name: str, value: str | None) -> str:
    """Return ` name="value"`, nothing where there is no value."""
    return "" if value is None else f' {name}="{escape(value)}"'


def picture_markup(placed: Placed, page: Page, chance: Chance) -> str:
    """Return the element, or the elements, that show `placed` on `page`."""
    item = placed.item
    base = page.base or page.url
    source = as_written(placed.url, item.address, base)
    rest = _describing(placed, chance)
    if placed.small is not None:
        form = "root" if item.address in _WITH_SPACES else item.address
        full, small = (as_written(url, form, base) for url in (placed.url, placed.also[0]))
        return _responsive(placed, full, small, rest, chance)
    if item.markup in ("lazy", "noscript"):
        lazy = attribute(pick(chance, _LAZY_ATTRIBUTES), source)
        element = f'<img class="lazyload"{attribute("src", _BLANK)}{lazy}{rest}>'
        if item.markup == "noscript":
            element += f"<noscript><img{attribute('src', source)}{rest}></noscript>"
        return element
    element = f"<img{attribute('src', source)}{rest}>"
    if item.markup == "linked":
        element = f"<a{attribute('href', source)}>{element}</a>"
    return element


def _describing(placed: Placed, chance: Chance) -> str:
    """Return the attributes with the texts and, on some pictures, the size."""
    texts, (width, height) = placed.item.texts, placed.item.size
    parts = attribute("alt", texts.alt) + attribute("title", texts.title)
    parts += attribute("aria-label", texts.aria)
    if chance.random() < 0.4:
        parts += f' width="{width}" height="{height}"'
    elif chance.random() < 0.3:
        parts += ' style="max-width:100%;height:auto"'
    return parts


def _responsive(placed: Placed, full: str, small: str, rest: str, chance: Chance) -> str:
    """Return an element that offers a small and the full file."""
    width, small_width = placed.item.size[0], (placed.small or placed.item.file).variant.size
    widths = f"{small} {(small_width or (0, 0))[0]}w, {full} {width}w"
    way = placed.item.markup
    if way == "srcset-w":
        source = attribute("src", pick(chance, (small, full)))
        sizes = ' sizes="(max-width: 700px) 100vw, 700px"'
        return f"<img{source}{attribute('srcset', widths)}{sizes}{rest}>"
    if way == "srcset-x":
        densities = attribute("srcset", f"{small} 1x, {full} 2x")
        return f"<img{attribute('src', small)}{densities}{rest}>"
    if way == "lazy-srcset":
        lazy = attribute("data-srcset", widths) + attribute("data-src", small)
        return f'<img class="lazy"{attribute("src", _BLANK)}{lazy}{rest}>'
    source = f'<source media="(min-width: 600px)"{attribute("srcset", widths)}>'
    return f"<picture>{source}<img{attribute('src', small)}{rest}></picture>"
