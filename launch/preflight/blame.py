"""From bad links to the machines that explain them: pure, and quick for thousands of machines."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Literal

Link = tuple[int, int]
"""From whom to whom."""


def culprits(bad: Iterable[Link], blamed_end: Literal[0, 1]) -> dict[int, list[Link]]:
    """Return the fewest machines, greedily, whose links are all the `bad` ones, with those.

    A sick machine has many bad links and each of its partners one. Where both ends have as many,
    `blamed_end` of the link is named: 0 the one that sends, 1 the one that is called.
    """
    links: dict[int, set[Link]] = defaultdict(set)
    as_blamed: dict[int, int] = defaultdict(int)
    for link in set(bad):
        for end in link:
            links[end].add(link)
        as_blamed[link[blamed_end]] += 1
    found: dict[int, list[Link]] = {}
    while links:
        worst = max(links, key=lambda node: (len(links[node]), as_blamed[node], -node))
        found[worst] = sorted(links.pop(worst))
        for link in found[worst]:
            other = link[0] if link[1] == worst else link[1]
            if other in links:
                links[other].discard(link)
                if not links[other]:
                    del links[other]
    return found
