"""Reads pages of the demo's web back: an independent check of what they show and link to."""

import re
from urllib.parse import urljoin, urlsplit

from selectolax.lexbor import LexborHTMLParser, LexborNode

_LAZY = ("data-src", "data-original", "data-lazy-src")


def resolve(reference: str, base: str) -> str:
    """Resolve an address as browsers do, as far as the web's pages need it."""
    reference = reference.strip().partition("#")[0].replace(" ", "%20")
    path, mark, query = reference.partition("?")
    url = urljoin(base, path.replace("\\", "/") + mark + query)
    parts = urlsplit(url)
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path}{query}"


class PageReader:
    """A page as a browser would see it."""

    def __init__(self, url: str, data: bytes, charset: str | None) -> None:
        declared = re.search(rb"<meta charset=[\"']?([\w-]+)", data)
        name = charset or (declared[1].decode() if declared else "utf-8")
        self.tree = LexborHTMLParser(data.decode(name))
        base = self.tree.css_first("base")
        self.base = urljoin(url, str(base.attributes["href"])) if base else url

    def pictures(self) -> dict[str, set[str]]:
        """Return the addresses of the pictures, each with the other addresses of its element."""
        found: dict[str, set[str]] = {}
        for node in self.tree.css("img"):
            addresses = self._addresses(node)
            if addresses:
                found.setdefault(addresses[0], set()).update(addresses[1:])
        return found

    def _addresses(self, node: LexborNode) -> list[str]:
        """Return the addresses of one element, the widest or densest first."""
        sets: list[tuple[float, str]] = []
        nodes = [node]
        if node.parent is not None and node.parent.tag == "picture":
            nodes += node.parent.css("source")
        for one in nodes:
            for name in ("srcset", "data-srcset"):
                for entry in (one.attributes.get(name) or "").split(","):
                    if entry.strip():
                        address, size = entry.split()
                        sets.append((float(size[:-1]), address))
        listed = [address for _, address in sorted(sets, reverse=True)]
        single = [node.attributes.get(name) for name in (*_LAZY, "src")]
        written = [*listed, *(one for one in single if one and not one.startswith("data:"))]
        return list(dict.fromkeys(resolve(one, self.base) for one in written))

    def links(self) -> set[str]:
        """Return where the page leads."""
        written = (node.attributes.get("href") or "" for node in self.tree.css("a"))
        found = {resolve(one, self.base) for one in written}
        return {url for url in found if url.startswith("http://")}

    def text(self) -> str:
        """Return everything that the page says, texts in attributes included."""
        parts = [self.tree.body.text(separator=" ") if self.tree.body else ""]
        for node in self.tree.css("img"):
            parts += [node.attributes.get(name) or "" for name in ("alt", "title", "aria-label")]
        return " ".join(" ".join(parts).split())
