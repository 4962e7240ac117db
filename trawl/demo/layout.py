"""Places the cast of the demo's web on pages and gives every picture and page its address."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import cycle, islice, pairwise

from trawl.chance import generator
from trawl.demo import addresses
from trawl.demo.casting import Item, Texts, graphic_item
from trawl.demo.copies import ImageFile, Variant, with_shorter_side
from trawl.demo.deliveries import DELIVERIES
from trawl.demo.junk_texts import graphic_text
from trawl.demo.languages import foreign_title
from trawl.demo.prose import Chance, filler_title
from trawl.demo.sites import Site

_ITEMS_PER_PAGE = 8
_ITEMS_PER_STOCK_PAGE = 24
_PAGES_PER_LIST = 20
_OPT_OUTS = ("noai", "noindex", "noimageai", "noai, noimageai", "header")
_RESPONSIVE = ("srcset-w", "srcset-x", "picture", "lazy-srcset")
_SMALL_SIDE = 220
_THUMBNAIL_SIDE = 140


@dataclass(frozen=True)
class Placed:
    """An item at its address. `also` are the addresses of smaller files of the same element."""

    item: Item
    url: str
    also: tuple[str, ...] = ()
    small: ImageFile | None = None


@dataclass
class Page:
    """A page: what it shows and where it leads. `opt_out` is its robots signal.

    `main` are the content's pictures, `teasers` those that lead to other pages; `header`, `aside`
    and `footer` hold the site's furniture. `neighbours` are addresses and titles of linked pages.
    """

    site: Site
    kind: str
    path: str
    title: str
    language: str
    number: int
    main: list[Placed] = field(default_factory=list)
    teasers: list[tuple[Placed, "Page"]] = field(default_factory=list)
    header: list[Placed] = field(default_factory=list)
    aside: list[Placed] = field(default_factory=list)
    footer: list[Placed] = field(default_factory=list)
    neighbours: list[tuple[str, str]] = field(default_factory=list)
    opt_out: str | None = None
    base: str | None = None
    broken: bool = False

    @property
    def url(self) -> str:
        """The absolute address."""
        return self.site.origin + self.path

    @property
    def faults(self) -> frozenset[str]:
        """What is wrong with every candidate of the page."""
        found = {"page-language"} if self.language != "en" else set()
        found |= {"opt-out"} if self.opt_out else set()
        return frozenset(found | ({"robots"} if self.private else set()))

    @property
    def private(self) -> bool:
        """Whether robots.txt forbids the page."""
        return self.path.startswith("/private/")

    def placed(self) -> Iterator[Placed]:
        """Yield everything that is shown, each address once, the content first."""
        seen: set[str] = set()
        teasers = (placed for placed, _ in self.teasers)
        for placed in (*self.main, *teasers, *self.header, *self.aside, *self.footer):
            if placed.url not in seen:
                seen.add(placed.url)
                yield placed


class Layout:
    """Builds the pages of a web out of its sites and its cast."""

    def __init__(self, seed: int, sites: tuple[Site, ...], items: list[Item]) -> None:
        self.seed = seed
        self.chance: Chance = generator(seed, "layout", len(items))
        self.sites = [site for site in sites if site.role == "content"]
        self.services = tuple(site for site in sites if site.role != "content")
        self.pages: list[Page] = []
        self._numbers: dict[str, int] = {}
        self._pictures = 0
        self._first_places: dict[str, str] = {}
        self._place_all(items)

    def _place_all(self, items: list[Item]) -> None:
        rooms: dict[str, list[Item]] = {}
        for item in items:
            rooms.setdefault(item.room, []).append(item)
        for room, cast in rooms.items():
            order = self.chance.permutation(len(cast))
            self._fill(self._room_pages(room, len(cast)), [cast[int(place)] for place in order])
        for site in self.sites:
            self._furnish(site)
        self._join_sites()

    def _room_pages(self, room: str, count: int) -> list[Page]:
        """Open the pages on which the items of `room` will stand."""
        english = [site for site in self.sites if site.language == "en"]
        per_page = _ITEMS_PER_STOCK_PAGE if room == "stock" else _ITEMS_PER_PAGE
        needed = -(-count // per_page)
        if room == "plain":
            return self._open_on(english, max(needed, len(english)))
        if room == "stock":
            return self._open_on(english[3:6], needed)
        if room == "private":
            hosts = [site for site in english if site.has_private_folder]
            return self._open_on(hosts, needed + 1, private=True)
        if room == "opt-out":
            pages = self._open_on(english[1:], max(needed, len(_OPT_OUTS)))
            for page, signal in zip(pages, cycle(_OPT_OUTS), strict=False):
                page.opt_out = signal
            return pages
        native = [site for site in self.sites if site.language == room]
        return self._open_on([*native * 2, english[-1]], max(needed, 2), room)

    def _open_on(
        self, hosts: list[Site], count: int, language: str = "en", private: bool = False
    ) -> list[Page]:
        """Open `count` articles on `hosts`, in turn."""
        turns = islice(cycle(hosts), count)
        return [self._open(site, language, private) for site in turns]

    def _open(self, site: Site, language: str = "en", private: bool = False) -> Page:
        """Open one article on `site`."""
        number = self._numbers[site.name] = self._numbers.get(site.name, 0) + 1
        chance = self.chance
        title = filler_title(chance) if language == "en" else foreign_title(language, chance)
        path = addresses.page_path(site.template, chance, title, number)
        page = Page(site, "article", "/private" * private + path, title, language, number)
        if chance.random() < 0.12:
            page.base = site.origin + "/assets/deep/"
        page.broken = bool(chance.random() < 0.2)
        self.pages.append(page)
        return page

    def _fill(self, pages: list[Page], items: list[Item]) -> None:
        """Deal the items out to the pages, no picture twice on one page."""
        items = sorted(items, key=lambda item: item.delivery == "same-address")
        shown: list[set[str]] = [set() for _ in pages]
        for turn, item in enumerate(items):
            for step in range(len(pages)):
                place = (turn + step) % len(pages)
                if item.file.picture not in shown[place]:
                    break
            else:
                continue
            shown[place].add(item.file.picture)
            pages[place].main.append(self._place(item, pages[place]))

    def _place(self, item: Item, page: Page) -> Placed:
        """Give `item` its address."""
        if item.delivery == "same-address":
            return Placed(item, self._first_places[item.file.picture])
        delivery = DELIVERIES[item.delivery]
        self._pictures += 1
        if delivery.role == "private":
            return Placed(item, f"http://10.0.0.7/photo-{self._pictures}.jpg")
        site = page.site
        if delivery.role != "own":
            site = addresses.any_service(self.services, delivery.role, self.chance)
        elif delivery.folder and not site.has_private_folder:
            site = next(other for other in self.sites if other.has_private_folder)
        extension = addresses.extension_of(item.file.name)
        path = addresses.image_path(site, item.address, self.chance, self._pictures, extension)
        url = site.origin + delivery.folder + path
        if item.copy == "original" and item.delivery == "plain":
            self._first_places[item.file.picture] = url
        if item.markup not in _RESPONSIVE:
            return Placed(item, url)
        size = with_shorter_side(item.size, _SMALL_SIDE)
        encoding = item.file.variant.encoding
        small = replace(item.file, variant=Variant(f"{size[0]}x{size[1]}", size, encoding=encoding))
        also = site.origin + addresses.small_path(path, size[0])
        return Placed(item, url, (also,), small)

    def _furnish(self, site: Site) -> None:
        """Add home and lists to the articles of `site`, then logo, icons, banners and adverts."""
        articles = [page for page in self.pages if page.site is site]
        chance = self.chance
        kinds = ("logo", *["icon"] * 4, "badge", "spacer")
        furniture = [self._graphic(site, kind) for kind in kinds]
        banners = [self._graphic(site, kind) for kind in ("banner", "advert", "advert")]
        home = Page(site, "home", "/", site.name.replace("-", " ").title(), site.language, 0)
        style, starts = (
            addresses.LIST_PATHS[site.template],
            range(0, len(articles), _PAGES_PER_LIST),
        )
        lists = []
        for number, start in enumerate(starts, 1):
            path = style.format(number=number)
            page = Page(site, "list", path, home.title, site.language, number)
            shown = articles[start : start + _PAGES_PER_LIST]
            page.teasers = [(teaser, to) for to in shown if (teaser := self._teaser(to))]
            page.neighbours = [(to.url, to.title) for to in shown]
            lists.append(page)
        home.neighbours = [(page.url, f"Page {page.number}") for page in lists]
        for before, after in pairwise(articles):
            before.neighbours.append((after.url, after.title))
            after.neighbours.append((before.url, before.title))
        for page in (home, *lists, *articles):
            page.header = [furniture[0], *furniture[1:3]]
            page.footer = furniture[3:]
            page.aside = [banners[int(place)] for place in chance.permutation(3)[:2]]
        self.pages += [home, *lists]

    def _graphic(self, site: Site, kind: str) -> Placed:
        """Return a piece of a site's furniture; adverts come from the host of adverts."""
        self._pictures += 1
        item = graphic_item(self.seed, kind, self._pictures, graphic_text(kind, self.chance))
        host = site
        if kind in ("banner", "advert"):
            host = addresses.any_service(self.services, "adverts", self.chance)
        extension = addresses.extension_of(item.file.name)
        url = f"{host.origin}/assets/{kind}-{self._pictures}.{extension}"
        item = replace(item, markup="bare", faults=item.faults | {"not-dominant"})
        return Placed(item, url)

    def _teaser(self, page: Page) -> Placed | None:
        """Return the thumbnail that leads to `page`: a small copy of its first good picture."""
        if page.private:
            return None
        for placed in page.main:
            item = placed.item
            if item.file.source == "scene" and not item.faults and item.copy == "original":
                size = with_shorter_side(item.size, _THUMBNAIL_SIDE)
                variant = Variant(f"{size[0]}x{size[1]}", size)
                path = f"/thumbs/{page.number}-{item.file.index}.jpg"
                texts = Texts(alt=page.title)
                teaser = Item(
                    ImageFile("scene", item.file.index, variant),
                    size,
                    texts,
                    faults=frozenset({"too-small", "wrong-text", "not-dominant"}),
                    copy="thumbnail",
                    markup="bare",
                )
                return Placed(teaser, page.site.origin + path)
        return None

    def _join_sites(self) -> None:
        """Link every home to the next two, so that sites without a seed are found as well."""
        homes = [page for page in self.pages if page.kind == "home"]
        for place, home in enumerate(homes):
            for step in (1, 2):
                other = homes[(place + step) % len(homes)]
                home.neighbours.append((other.url, other.title))
