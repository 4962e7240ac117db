"""What a page's head and its other elements without pictures say, as they come by."""

from data_pipeline.crawl.address import Base, canonical
from data_pipeline.crawl.backgrounds import Backgrounds
from data_pipeline.crawl.candidates import Gatherer
from data_pipeline.crawl.metadata import Attributes, Metadata
from data_pipeline.crawl.texts import tidy


class Head:
    """Takes what a page says of itself from one who walks through it, with plain values.

    A base element changes the base of the gatherer, for what comes after it.
    """

    def __init__(self, gatherer: Gatherer) -> None:
        self._gatherer = gatherer
        self.metadata = Metadata()
        self.backgrounds = Backgrounds()
        self.title: str | None = None

    def take_base(self, address: str) -> None:
        """Take the href of a base element: the first good one counts."""
        gatherer = self._gatherer
        base = canonical(address, gatherer.page)
        if base is not None and gatherer.base.url == gatherer.page:
            gatherer.base = Base(base)

    def take_title(self, text: str) -> None:
        """Take the text of a title element: the first counts."""
        if self.title is None:
            self.title = tidy(text)

    def take_sheet(self, css: str) -> None:
        """Take the text of a style element."""
        self.backgrounds.add_sheet(css)

    def take_json(self, text: str) -> None:
        """Take the text of a JSON-LD script."""
        self.metadata.add_json(text)

    def take_meta(self, attributes: Attributes, parent: Attributes) -> None:
        """Take a meta element; its parent's attributes are needed if it has an itemprop."""
        self.metadata.add_meta(attributes, parent)

    def take_relation(self, attributes: Attributes, parent: Attributes) -> None:
        """Take a link element; its parent's attributes are needed if it has an itemprop."""
        relation, address = attributes.get("rel") or "", attributes.get("href") or ""
        self.take_licence(relation, address)
        if "image_src" in relation.lower() and address:
            self.metadata.add_image(address)
        if attributes.get("itemprop"):
            self.metadata.add_item(attributes, parent, address)

    def take_licence(self, relation: str, address: str) -> None:
        """Take the rel and href of a link or anchor, if it leads to a licence."""
        if "license" in relation.lower() and not self.metadata.licence:
            self.metadata.licence = self._gatherer.base[address]
