"""Tables that lay pictures out in a row, with their captions in the row beneath."""

from selectolax.lexbor import LexborNode

MAX_CAPTION = 300
"""Longest text of a cell that is taken for a caption, in characters."""

_MAX_CELLS = 100
_MAX_SPACES = 20


class ImageTables:
    """Finds the caption of an image's cell; the rows that images share are read once."""

    def __init__(self) -> None:
        self._rows: dict[int, dict[int, str]] = {}

    def caption_of(self, cell: LexborNode) -> str:
        """Return the text of the cell beneath `cell`, "" unless the two rows are such a pair."""
        row = cell.parent
        if row is None or row.tag != "tr":
            return ""
        captions = self._rows.get(row.mem_id)
        if captions is None:
            captions = self._rows[row.mem_id] = _captions(row)
        return captions.get(cell.mem_id, "")


def _captions(row: LexborNode) -> dict[int, str]:
    """Return the caption of each cell of a row of images, by the cell's identity.

    A pair of rows: two images or more in cells above; beneath, cells without images that have
    short texts or none, as many columns wide, whatever their spans.
    """
    beneath = _next_row(row)
    if beneath is None:
        return {}
    above, below = _columns(row), _columns(beneath)
    width = max(above, default=0)
    if not above or not below or width != max(below):
        return {}
    texts = {column: " ".join((cell.text_lexbor() or "").split()) for column, cell in below.items()}
    if not all(len(text) < MAX_CAPTION for text in texts.values()):
        return {}
    if any(cell.css_first("img") is not None for cell in below.values()):
        return {}
    pictured = {column: cell for column, cell in above.items() if cell.css_first("img") is not None}
    if len(pictured) < 2:
        return {}
    return {cell.mem_id: texts.get(column, "") for column, cell in pictured.items()}


def _next_row(row: LexborNode) -> LexborNode | None:
    """Return the row that follows, if nothing but space and comments lies between."""
    node = row.next
    for _ in range(_MAX_SPACES):
        if node is None or node.tag == "tr":
            return node
        if node.tag not in ("-text", "-comment"):
            return None
        node = node.next
    return None


def _columns(row: LexborNode) -> dict[int, LexborNode]:
    """Return the cells of a row by the column in which they end; {} where a cell spans rows."""
    found: dict[int, LexborNode] = {}
    column = 0
    node = row.first_child
    while node is not None and len(found) < _MAX_CELLS:
        if node.tag in ("td", "th"):
            attributes = node.attributes
            if (attributes.get("rowspan") or "1") != "1":
                return {}
            span = attributes.get("colspan") or "1"
            column += int(span) if span.isdecimal() and 0 < len(span) < 4 else 1
            found[column] = node
        node = node.next
    return found
