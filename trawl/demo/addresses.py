"""Addresses of the demo's web: the paths that sites give their files, and how pages write them."""

import posixpath
from urllib.parse import urlsplit

from trawl.demo.prose import Chance, pick
from trawl.demo.sites import Site

PAGE_PATHS = {
    "blog": "/20{year}/{month:02d}/{slug}-{number}.html",
    "gallery": "/albums/{number}/",
    "magazine": "/stories/{slug}-{number}",
    "shop": "/item.php?id={number}&ref={month}",
    "forum": "/thread/{number}?page=1",
    "handbook": "/wiki/{slug}_{number}",
}
"""The paths of articles by the template of their site."""

LIST_PATHS = {
    "blog": "/archive/{number}.html",
    "gallery": "/albums/index-{number}.html",
    "magazine": "/section/{number}",
    "shop": "/catalogue.php?page={number}",
    "forum": "/board/{number}",
    "handbook": "/wiki/Contents_{number}",
}
_IMAGE_PATHS = (
    "/images/IMG_{number}.{ext}",
    "/wp-content/uploads/20{year}/{month:02d}/dsc0{number}.{ext}",
    "/media/{month:02x}/{number:x}.{ext}",
    "/files/photo-{number}.{ext}",
    "/static/pictures/{number}/full.{ext}",
)
_QUERY_PATH = "/photo.php?id={number}&size=full"
_SPACED_PATH = "/my%20photos/picture%20{number}.{ext}"


def slug(text: str) -> str:
    """Return the words of `text` as a part of a path."""
    letters = "".join(letter if letter.isascii() and letter.isalnum() else " " for letter in text)
    return "-".join(letters.lower().split()[:6]) or "page"


def page_path(template: str, chance: Chance, title: str, number: int) -> str:
    """Return the path of article `number`, which no other article of its site has."""
    year, month = int(chance.integers(10, 24)), int(chance.integers(1, 13))
    return PAGE_PATHS[template].format(year=year, month=month, slug=slug(title), number=number)


def image_path(site: Site, form: str, chance: Chance, number: int, extension: str) -> str:
    """Return the path of picture `number`, which no other picture of the web has."""
    year, month = int(chance.integers(10, 24)), int(chance.integers(1, 13))
    style = _IMAGE_PATHS[sum(site.name.encode()) % len(_IMAGE_PATHS)]
    if form == "query":
        style = _QUERY_PATH
    elif form == "space":
        style = _SPACED_PATH
    return style.format(year=year, month=month, number=1000 + number, ext=extension)


def small_path(path: str, width: int) -> str:
    """Return the path of the small copy, `width` pixels wide, of the picture at `path`."""
    stem, dot, extension = path.rpartition(".")
    return f"{path}&w={width}" if "?" in path else f"{stem}-{width}w{dot}{extension}"


def as_written(url: str, form: str, base: str) -> str:
    """Return `url` as a page whose relative addresses resolve against `base` may write it.

    Browsers resolve every form to `url`; forms that only fit the same host fall back to others.
    """
    target, here = urlsplit(url), urlsplit(base)
    path = target.path + (f"?{target.query}" if target.query else "")
    same_host = target.netloc == here.netloc
    if form in ("root", "relative", "query", "space", "backslash") and not same_host:
        form = "protocol" if form == "relative" else "full"
    if form == "relative" and target.path.endswith("/"):
        form = "root"
    written = {
        "protocol": f"//{target.netloc}{path}",
        "fragment": f"{url}#photo",
        "capitals": f"HTTP://{target.netloc.upper()}{path}",
        "padded": f"  {url}\n ",
        "space": path.replace("%20", " "),
        "backslash": target.path.replace("/", "\\") + path[len(target.path) :],
        "root": path,
        "query": path,
        "relative": path,
    }.get(form, url)
    if form == "relative":
        folder = posixpath.dirname(here.path) or "/"
        written = posixpath.relpath(target.path, folder) + path[len(target.path) :]
    return written


def extension_of(name: str) -> str:
    """Return the extension of a file name, without the dot."""
    return name.rpartition(".")[2]


def any_service(services: tuple[Site, ...], role: str, chance: Chance) -> Site:
    """Return one of the hosts that play `role`."""
    return pick(chance, [site for site in services if site.role == role])
