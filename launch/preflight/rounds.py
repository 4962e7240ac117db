"""Who measures with whom: a round-robin tournament, in which all pairs of a round run at once."""


def partner(node: int, number: int, nodes: int) -> int | None:
    """Return whom `node` meets in round `number` of `nodes` - 1 (or `nodes`, if odd), if anyone.

    The circle method: over all rounds each two meet exactly once.
    """
    circle = nodes - 1 if nodes % 2 == 0 else nodes
    if node == circle:  # the one in the middle, where the count is even
        return number * (circle + 1) // 2 % circle
    other = (number - node) % circle
    if other == node:
        return circle if nodes % 2 == 0 else None
    return other


def rounds(nodes: int, partners: int) -> list[int]:
    """Return which rounds are played so that each meets about `partners` others, spread out."""
    circle = nodes - 1 if nodes % 2 == 0 else nodes
    count = min(circle, partners if nodes % 2 == 0 else partners + 1)
    return [number * circle // count for number in range(count)]
