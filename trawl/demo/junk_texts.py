"""Texts that stand beside pictures on the web and say nothing about them."""

from trawl.demo.prose import Chance, filler_words, pick

_PLACEHOLDERS = (
    *("image", "photo", "picture", "img", "[Illustration]", "untitled", "thumbnail", "alt text"),
    *("Image", "Photo", "Click to enlarge", "No description available", "default image", "banner"),
)
_SPAM = (
    "Buy cheap {0} online ${1}.99 click here best price free shipping",
    "CHEAP {0} FOR SALE!!! Only ${1}.99 - click here to order now",
    "Best {0} deals 2024, up to 70% off, buy now, coupon code inside",
    "Win a free {0} today! Click here and subscribe, limited offer ${1}.99",
    "{0} discount {0} cheap {0} buy {0} online {0} sale {0} best price {0}",
)
_GOODS = ("tickets", "insurance", "watches", "loans", "vitamins", "followers", "hosting", "coupons")
_GRAPHIC_TEXTS = {
    "logo": ("{0} logo", "Logo of the {0} {1}", "logo"),
    "large-logo": ("The emblem of the {1} {0}", "Logo of the {1} {0} in high resolution"),
    "icon": ("icon", "", "share", "menu", "search", "rss"),
    "badge": ("badge", "Member of the {0}", "certified", "Valid HTML"),
    "banner": ("advertisement", "Banner: {1} {0}", "sponsored", ""),
    "advert": ("advertisement", "Sale ends soon, order now", "sponsored content", ""),
    "spacer": ("", "spacer"),
    "bar-chart": ("Bar chart of the {0} from year to year", "Chart: {1} {0} in per cent"),
    "line-chart": ("Line chart of the {1} {0} over the last years", "How the {0} developed"),
    "pie-chart": ("Pie chart with the shares of the {0}", "Share of each {0} in the total"),
    "map": ("Map of the {1} {0}", "Street map with the way to the {0}"),
    "diagram": ("Diagram of the {1} {0} in three steps", "How the {0} works, step by step"),
    "table": ("Table of figures about the {0}", "The {0} in figures"),
    "screenshot": ("Screenshot of the {1} {0}", "What the screen shows after the {0}"),
    "quote-card": ("Quote about the {1} {0}", "A saying about every {0}"),
}


def placeholder_text(chance: Chance) -> str:
    """Return a text that a program or a lazy author has left, such as "IMG_1234.jpg"."""
    draw = chance.random()
    number = int(chance.integers(1000, 9999))
    if draw < 0.3:
        return pick(chance, ("IMG_{}.jpg", "DSC0{}.JPG", "P100{}.jpeg", "img{}", "{}.png")).format(
            number
        )
    return pick(chance, _PLACEHOLDERS)


def spam_text(chance: Chance) -> str:
    """Return an advertisement that has taken the place of a description."""
    return pick(chance, _SPAM).format(pick(chance, _GOODS), int(chance.integers(3, 90)))


def graphic_text(kind: str, chance: Chance) -> str:
    """Return the text that stands beside a graphic of `kind`; may be empty."""
    noun, adjective = filler_words(chance, 2).split()
    return pick(chance, _GRAPHIC_TEXTS[kind]).format(noun, adjective)
