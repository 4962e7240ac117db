"""How two objects stand to each other, told from their boxes and from what hides what."""

RELATIONS: tuple[str, ...] = (
    *("left of", "right of", "above", "below", "in front of", "behind", "next to"),
)
OPPOSITES: dict[str, str] = {
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
    "in front of": "behind",
    "behind": "in front of",
    "next to": "next to",
}
_NEXT_TO_GAP = 0.25

Box = tuple[float, float, float, float]


def relations_between(
    boxes: list[Box], hidden_by: set[tuple[int, int]]
) -> tuple[tuple[int, str, int], ...]:
    """Return all relations (subject, relation, object), each together with its opposite.

    `hidden_by` holds the pairs (hidden, hiding).
    """
    found: list[tuple[int, str, int]] = []
    for first in range(len(boxes)):
        for second in range(first + 1, len(boxes)):
            names = sides(boxes[first], boxes[second])
            if (second, first) in hidden_by:
                names.append("in front of")
            elif (first, second) in hidden_by:
                names.append("behind")
            elif next_to(boxes[first], boxes[second]):
                names.append("next to")
            for name in names:
                found.append((first, name, second))
                found.append((second, OPPOSITES[name], first))
    return tuple(found)


def sides(first: Box, second: Box) -> list[str]:
    """Return on which side of `second` the box `first` is: one side, or none.

    A side holds if neither box reaches past the other's centre, and if the boxes are farther apart
    along it than across it.
    """
    x1, y1 = (first[0] + first[2]) / 2, (first[1] + first[3]) / 2
    x2, y2 = (second[0] + second[2]) / 2, (second[1] + second[3]) / 2
    if abs(x1 - x2) > abs(y1 - y2):
        if first[2] < x2 and x1 < second[0]:
            return ["left of"]
        if second[2] < x1 and x2 < first[0]:
            return ["right of"]
    elif abs(y1 - y2) > abs(x1 - x2):
        if first[3] < y2 and y1 < second[1]:
            return ["above"]
        if second[3] < y1 and y2 < first[1]:
            return ["below"]
    return []


def next_to(first: Box, second: Box) -> bool:
    """Tell whether two boxes stand side by side with a small gap, or none, between them."""
    gap = max(first[0], second[0]) - min(first[2], second[2])
    level = min(first[3], second[3]) - max(first[1], second[1])
    larger = max(first[2] - first[0], second[2] - second[0])
    lower = min(first[3] - first[1], second[3] - second[1])
    beside = sides(first, second) in (["left of"], ["right of"])
    return beside and gap < _NEXT_TO_GAP * larger and level > 0.5 * lower
