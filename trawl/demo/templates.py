"""The looks of the demo's sites: six kinds of pages, from a tidy blog to tables of the nineties."""

from dataclasses import dataclass
from string import Template


@dataclass(frozen=True)
class Look:
    """The markup of one kind of site, with $names to fill in.

    `shell` takes head, header, links, main, aside and footer; `block` takes heading, before,
    picture and after; `figure` takes picture and caption, `plain` a picture alone.
    """

    shell: Template
    block: Template
    figure: Template
    plain: Template
    teaser: Template
    comment: Template


STYLE = """
body{margin:0;font:16px/1.5 sans-serif;color:#222;background:#fdfdfd}
a{color:#145ea8;text-decoration:none}a:hover{text-decoration:underline}
img{max-width:100%;border:0}.wrap{max-width:64rem;margin:0 auto;padding:0 1rem}
nav ul{list-style:none;display:flex;gap:1rem;padding:0}figcaption{font-size:.85rem;color:#666}
.ads,.advertisement{border:1px dashed #bbb;padding:.5rem;margin:1rem 0;min-height:4rem}
footer{border-top:1px solid #ddd;margin-top:3rem;padding:1rem 0;font-size:.8rem;color:#777}
@media (max-width:40rem){.columns{display:block}.sidebar{width:auto}}
"""
SCRIPT = """
(function(){var queue=window.queue||[];queue.push(["page",document.location.pathname]);
var template='<img src="/pixel.gif?x=1" alt="pixel">';
function later(run){if(document.readyState!=="loading"){run()}else{
document.addEventListener("DOMContentLoaded",run)}}
later(function(){document.querySelectorAll("img[data-src]").forEach(function(image){
if(image.getBoundingClientRect().top<window.innerHeight*2){image.src=image.dataset.src}})})})();
"""


_BLOG = Look(
    shell=Template(
        '<!doctype html>\n<html lang="$language">\n<head>\n$head\n</head>\n<body class="blog">\n'
        '<header class="site-header"><div class="wrap">$header\n<nav><ul>$links</ul></nav></div>'
        '</header>\n<main class="wrap"><article>\n<h1>$title</h1>\n$main\n</article></main>\n'
        '<aside class="sidebar ads">$aside</aside>\n<footer><div class="wrap">$footer</div>'
        "</footer>\n</body>\n</html>\n"
    ),
    block=Template("<section>\n<h2>$heading</h2>\n$before\n$picture\n$after\n</section>\n"),
    figure=Template(
        '<figure class="wp-caption">$picture<figcaption>$caption</figcaption></figure>'
    ),
    plain=Template('<div class="photo">$picture</div>'),
    teaser=Template(
        '<li class="teaser"><a href="$url">$picture</a> <a href="$url">$title</a></li>'
    ),
    comment=Template('<div class="comment"><b>$name</b><p>$text</p></div>\n'),
)
_GALLERY = Look(
    shell=Template(
        '<!DOCTYPE html>\n<html lang="$language"><head>\n$head\n</head><body>\n'
        '<div id="header" class="header">$header<ul class="menu">$links</ul></div>\n'
        '<div id="content" class="content gallery"><h1>$title</h1>\n$main\n</div>\n'
        '<div class="advertisement">$aside</div>\n<div id="footer" class="footer">$footer</div>\n'
        "</body></html>\n"
    ),
    block=Template('<div class="tile">\n$before$picture\n$after<!-- $heading --></div>\n'),
    figure=Template("<figure>$picture<figcaption>$caption</figcaption></figure>"),
    plain=Template("$picture"),
    teaser=Template('<div class="tile small"><a href="$url">$picture</a><p>$title</p></div>'),
    comment=Template('<p class="guestbook"><i>$name:</i> $text</p>\n'),
)
_MAGAZINE = Look(
    shell=Template(
        '<!doctype html>\n<html lang="$language" prefix="og: https://ogp.me/ns#">\n<head>\n$head\n'
        '</head>\n<body>\n<header role="banner">$header</header>\n<nav class="main-nav"><ul>$links'
        '</ul></nav>\n<div class="columns">\n<article class="story" role="main">\n'
        "<header><h1>$title</h1></header>\n$main\n</article>\n"
        '<aside class="related advertisement" role="complementary">$aside</aside>\n</div>\n'
        '<footer role="contentinfo">$footer</footer>\n</body>\n</html>\n'
    ),
    block=Template('<div class="part">\n<h3>$heading</h3>\n$before\n$picture\n$after\n</div>\n'),
    figure=Template(
        '<figure role="group">\n<div class="frame">$picture</div>\n<figcaption>'
        "<span>$caption</span></figcaption>\n</figure>"
    ),
    plain=Template('<div class="frame">$picture</div>'),
    teaser=Template('<article class="card"><a href="$url">$picture<h4>$title</h4></a></article>'),
    comment=Template("<blockquote><p>$text</p><cite>$name</cite></blockquote>\n"),
)
_SHOP = Look(
    shell=Template(
        '<!DOCTYPE html>\n<html lang="$language">\n<head>\n$head\n</head>\n<body>\n'
        '<div class="topbar">$header</div><div class="navigation"><ul>$links</ul></div>\n'
        '<div id="main"><h1 class="product-title">$title</h1>\n$main\n'
        '<form action="/basket" method="post"><input type="number" name="count" value="1">'
        '<button>Add to basket</button></form></div>\n<div class="banner-ads">$aside</div>\n'
        '<div class="footer">$footer</div>\n</body>\n</html>\n'
    ),
    block=Template(
        '<div class="product">\n<h4>$heading</h4>$before\n'
        '<div class="product-picture">$picture</div>\n'
        '<div class="product-text">$after</div>\n</div>\n'
    ),
    figure=Template("<figure>$picture<figcaption>$caption</figcaption></figure>"),
    plain=Template("$picture"),
    teaser=Template('<li class="product"><a href="$url">$picture</a><span>$title</span></li>'),
    comment=Template('<li class="review"><strong>$name</strong> $text</li>\n'),
)
_FORUM = Look(
    shell=Template(
        '<HTML>\n<HEAD>\n$head\n</HEAD>\n<BODY BGCOLOR=#ffffff>\n<TABLE WIDTH="100%"><TR><TD '
        'COLSPAN=2 CLASS="header">$header<UL CLASS="nav">$links</UL></TD></TR>\n<TR><TD '
        'VALIGN=top>\n<H1>$title</H1>\n$main\n</TD>\n<TD WIDTH=200 CLASS="ads">$aside</TD></TR>\n'
        '<TR><TD COLSPAN=2 CLASS="footer">$footer</TD></TR></TABLE>\n</BODY>\n</HTML>\n'
    ),
    block=Template(
        '<DIV CLASS="post"><P><B>$heading</B>\n$before\n<DIV CLASS=attachment>$picture</DIV>\n'
        "$after\n</DIV><HR>\n"
    ),
    figure=Template("<figure>$picture<figcaption>$caption</figcaption></figure>"),
    plain=Template("$picture"),
    teaser=Template('<LI><A HREF="$url">$picture</A> <A HREF="$url">$title</A>\n'),
    comment=Template('<DIV CLASS="post"><B>$name</B> wrote:<P>$text</DIV>\n'),
)
_HANDBOOK = Look(
    shell=Template(
        '<!DOCTYPE html>\n<html class="no-js" lang="$language" dir="ltr">\n<head>\n$head\n</head>\n'
        '<body class="mediawiki">\n<div id="content" role="main">\n'
        '<h1 id="firstHeading">$title</h1>\n<div id="bodyContent">\n$main\n</div>\n</div>\n'
        '<div id="navigation" role="navigation">$header<ul>$links</ul></div>\n'
        '<div class="sponsor ads">$aside</div>\n'
        '<div id="footer" role="contentinfo">$footer</div>\n</body>\n</html>\n'
    ),
    block=Template(
        '<h2><span class="mw-headline">$heading</span></h2>\n<div class="section">$before\n'
        '<div class="thumb tright">$picture</div>\n$after</div>\n'
    ),
    figure=Template("<figure>$picture<figcaption>$caption</figcaption></figure>"),
    plain=Template("$picture"),
    teaser=Template('<dd><a href="$url">$picture</a> <a href="$url">$title</a></dd>'),
    comment=Template("<ol><li><cite>$name</cite> $text</li></ol>\n"),
)

LOOKS: dict[str, Look] = {
    "blog": _BLOG,
    "gallery": _GALLERY,
    "magazine": _MAGAZINE,
    "shop": _SHOP,
    "forum": _FORUM,
    "handbook": _HANDBOOK,
}
"""Look by the template of a site."""
