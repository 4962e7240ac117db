"""The sites of the demo's web: their names, their looks, their manners and their robots.txt."""

from dataclasses import dataclass

from trawl.chance import generator
from trawl.demo.languages import FOREIGN
from trawl.demo.prose import pick
from trawl.errors import RequestError

DOMAIN = "trawl.test"
LEAST_SITES = 8
TEMPLATES = ("blog", "gallery", "magazine", "shop", "forum", "handbook")
"""The looks of sites, see `templates`."""

_FIRST = (
    *("harbour", "willow", "north", "stone", "ember", "cedar", "silver", "maple", "river", "cloud"),
    *("amber", "hazel", "marsh", "summit", "valley", "granite", "meadow", "pebble", "orchard"),
)
_SECOND = (
    *("post", "journal", "atlas", "notes", "gazette", "works", "lane", "review", "corner", "folio"),
    *("studio", "press", "weekly", "market", "archive", "club"),
)
_ROBOTS = {
    "none": None,
    "empty": "",
    "private": "# please be gentle\nUser-agent: *\nDisallow: /private/\nDisallow: /cgi-bin/\n",
    "wildcard": "User-agent: *\nDisallow: /*?print=\nDisallow: /private/*\nAllow: /private/open/\n",
    "named": (
        "User-agent: SomeOtherBot\nDisallow: /\n\nUser-agent: *\nCrawl-delay: 0\n"
        "Disallow: /private/\n\nSitemap: http://{host}/sitemap.xml\n"
    ),
    "tidy": "User-agent: *\nDisallow:\n",
    "closed": "User-agent: *\nDisallow: /\n",
}
_OPEN_STYLES = ("none", "empty", "tidy", "private", "wildcard", "named")

_SERVICES = (
    ("cdn-east", "cdn", "none"),
    ("cdn-west", "cdn", "tidy"),
    ("adverts", "adverts", "none"),
    ("slow-press", "slow", "empty"),
    ("broken-press", "broken", "none"),
    ("hangup", "reset", "none"),
    ("silent", "hang", "none"),
    ("members-only", "closed", "closed"),
)


@dataclass(frozen=True)
class Site:
    """One host. `role` is "content" for sites with pages, else what its images are like to fetch.

    `robots` names the style of its robots.txt; `seeded` says that the seed list holds its home.
    """

    name: str
    role: str
    template: str
    language: str
    robots: str
    seeded: bool
    encoding: str = "utf-8"
    gzip: bool = False
    delay: float = 0.0

    @property
    def host(self) -> str:
        """The name in addresses."""
        return f"{self.name}.{DOMAIN}"

    @property
    def origin(self) -> str:
        """Scheme and host."""
        return f"http://{self.host}"

    @property
    def robots_text(self) -> str | None:
        """The content of robots.txt, None where there is none."""
        text = _ROBOTS[self.robots]
        return None if text is None else text.format(host=self.host)

    @property
    def has_private_folder(self) -> bool:
        """Whether robots.txt forbids /private/."""
        return self.robots in ("private", "wildcard", "named")


def make_sites(seed: int, count: int) -> tuple[Site, ...]:
    """Return `count` sites with pages, followed by the hosts that only deliver images.

    About one site in eight is not in English, and one in ten is found by links alone.
    """
    if count < LEAST_SITES:
        raise RequestError(f"sites={count}: a web needs at least {LEAST_SITES} sites")
    if count > len(_FIRST) * len(_SECOND):
        raise RequestError(f"sites={count}: there are names for {len(_FIRST) * len(_SECOND)} only")
    chance = generator(seed, "sites")
    numbers = chance.permutation(len(_FIRST) * len(_SECOND))[:count]
    sites = []
    for place, number in enumerate(numbers):
        first, second = divmod(int(number), len(_SECOND))
        language = FOREIGN[place // 8 % len(FOREIGN)] if place % 8 == 7 else "en"
        sites.append(
            Site(
                name=f"{_FIRST[first]}-{_SECOND[second]}",
                role="content",
                template=TEMPLATES[place % len(TEMPLATES)],
                language=language,
                robots=_OPEN_STYLES[(place + place // 6) % len(_OPEN_STYLES)],
                seeded=place % 10 != 9,
                encoding=pick(chance, ("utf-8", "utf-8", "utf-8", "utf-8", "latin-1", "ascii")),
                gzip=bool(chance.random() < 0.3),
                delay=0.05 if place % 16 == 5 else 0.0,
            )
        )
    services = [Site(name, role, "", "en", robots, False) for name, role, robots in _SERVICES]
    return (*sites, *services)
