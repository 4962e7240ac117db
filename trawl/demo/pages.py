"""Writes the HTML of the demo's pages: a pure function of the page."""

from html import escape

from trawl.chance import generator
from trawl.demo.languages import foreign_paragraph, foreign_sentence
from trawl.demo.layout import Page, Placed
from trawl.demo.markup import attribute, picture_markup
from trawl.demo.prose import (
    Chance,
    comment,
    filler_paragraph,
    filler_sentence,
    heading,
)
from trawl.demo.templates import LOOKS, SCRIPT, STYLE, Look

_BREAKAGE = (
    ("</p>", ""),
    ("</li>", ""),
    ("</article>", "</article></span>"),
    ("</section>", "</b></section>"),
    ("<h2>", "<h2><font color=navy>"),
    ("</body>", "</div></div></body>"),
)
_NAMES = ("Alex", "Robin", "Kim", "Jo", "Sam", "Dana", "Pat", "Chris", "Noor", "Sasha")


def page_html(seed: int, page: Page) -> bytes:
    """Return the document as it is sent, in the encoding of its site."""
    writer = _PageWriter(page, generator(seed, "page", page.url))
    text = writer.document()
    if page.broken:
        for whole, broken in _BREAKAGE:
            text = text.replace(whole, broken)
    encoding = {"latin-1": "latin-1", "ascii": "ascii"}.get(page.site.encoding, "utf-8")
    return text.encode(encoding, "xmlcharrefreplace")


class _PageWriter:
    """Fills the look of a site with the content of one page."""

    def __init__(self, page: Page, chance: Chance) -> None:
        self.page = page
        self.chance = chance
        self.look: Look = LOOKS[page.site.template]

    def document(self) -> str:
        page = self.page
        return self.look.shell.substitute(
            language=page.language,
            head=self._head(),
            header=self._furniture(page.header),
            links=self._links(),
            title=escape(page.title),
            main=self._main(),
            aside=self._furniture(page.aside),
            footer=self._furniture(page.footer) + f"<p>{escape(page.site.name)} and friends</p>",
        )

    def _head(self) -> str:
        page = self.page
        charset = {"utf-8": "utf-8", "latin-1": "iso-8859-1"}.get(page.site.encoding)
        lines = [f'<meta charset="{charset}">'] if charset else []
        lines.append(f"<title>{escape(page.title)} - {escape(page.site.name)}</title>")
        if page.base:
            lines.append(f"<base{attribute('href', page.base)}>")
        if page.opt_out not in (None, "header"):
            lines.append(f'<meta name="robots"{attribute("content", page.opt_out)}>')
        lines.append(f"<meta name=description{attribute('content', self._sentence())}>")
        lines.append(f'<link rel="canonical"{attribute("href", page.url)}>')
        lines.append(f"<style>{STYLE}</style>\n<script>{SCRIPT}</script>")
        return "\n".join(lines)

    def _paragraph(self, told: str | None = None) -> str:
        """Return a paragraph of filler, after the sentence `told` if there is one."""
        if self.page.language == "en":
            text = filler_paragraph(self.chance)
        else:
            text = foreign_paragraph(self.page.language, self.chance)
        text = f"{told} {text}" if told else text
        return f"<p>{escape(text, quote=False)}</p>"

    def _sentence(self) -> str:
        if self.page.language == "en":
            return filler_sentence(self.chance)
        return foreign_sentence(self.page.language, self.chance)

    def _furniture(self, shown: list[Placed]) -> str:
        """Return small pictures without much text, each in a link or not."""
        parts = []
        for placed in shown:
            element = picture_markup(placed, self.page, self.chance)
            linked = self.chance.random() < 0.5
            parts.append(f'<a href="/">{element}</a>' if linked else f"<span>{element}</span>")
        return "\n".join(parts)

    def _links(self) -> str:
        """Return links to the site's own pages, to other sites, and some that lead nowhere."""
        page = self.page
        origin = page.site.origin
        shown = [(f"{origin}/", "Home"), (f"{origin}/index.html", "Start"), *page.neighbours]
        shown += [(f"{origin}/files/report.pdf", "Report"), (f"{origin}/gone", "Old news")]
        shown += [
            (f"{origin}/missing/{page.number}.html", "Archive"),
            ("mailto:us@example.org", "Mail"),
        ]
        shown += [("javascript:void(0)", "Menu"), ("#top", "Top")]
        if page.site.has_private_folder:
            shown.append((f"{origin}/private/accounts/{page.number}", "Members"))
        if page.site.robots == "wildcard":
            shown.append((f"{origin}/?print={page.number}", "Print"))
        if page.kind == "article" and page.number % 5 == 0 and not page.private:
            shown.append((f"{origin}/go/{page.number}", "This page"))
        return "\n".join(
            f"<li><a{attribute('href', url)}>{escape(title)}</a></li>" for url, title in shown
        )

    def _main(self) -> str:
        page = self.page
        parts = [self._paragraph() for _ in range(3 if page.kind == "article" else 5)]
        parts += [self._block(placed) for placed in page.main]
        for placed, to in page.teasers:
            picture = picture_markup(placed, page, self.chance)
            parts.append(
                self.look.teaser.substitute(
                    url=escape(to.url), picture=picture, title=escape(to.title)
                )
            )
        parts.append(f"<!-- <img src='/old/{page.number}.jpg' alt='removed'> -->")
        parts += [self._paragraph() for _ in range(2)]
        if page.kind == "article":
            parts += [self._comment() for _ in range(int(self.chance.integers(0, 4)))]
        return "\n".join(parts)

    def _comment(self) -> str:
        told = comment(self.chance) if self.page.language == "en" else self._sentence()
        name = _NAMES[int(self.chance.integers(len(_NAMES)))]
        return self.look.comment.substitute(name=name, text=escape(told))

    def _block(self, placed: Placed) -> str:
        """Return a picture with its caption and the paragraphs around it."""
        texts = placed.item.texts
        picture = picture_markup(placed, self.page, self.chance)
        if texts.figcaption is None:
            picture = self.look.plain.substitute(picture=picture)
        else:
            caption = escape(texts.figcaption, quote=False)
            picture = self.look.figure.substitute(picture=picture, caption=caption)
        before = after = ""
        if texts.filler:
            after = self._paragraph(texts.beside)
            before = self._paragraph() if self.chance.random() < 0.4 else ""
        if texts.beside and self.chance.random() < 0.25:
            before, after = f"<p>{escape(texts.beside, quote=False)}</p>", self._paragraph()
        title = heading(self.chance) if self.page.language == "en" else self.page.title
        return self.look.block.substitute(
            heading=escape(title), before=before, picture=picture, after=after
        )
