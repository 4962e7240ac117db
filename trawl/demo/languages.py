"""Small grammars of German, French, Spanish and Dutch, for pages that are not in English.

Every sentence is grammatical, long enough for language identification
and describes no scene of the world.
"""

from dataclasses import dataclass

from trawl.demo.prose import Chance, pick


@dataclass(frozen=True)
class Grammar:
    """Parts of sentences of one language, which fit together in every combination."""

    openers: tuple[str, ...]
    subjects: tuple[str, ...]
    verbs: tuple[str, ...]
    objects: tuple[str, ...]
    endings: tuple[str, ...]
    captions: tuple[str, ...]
    places: tuple[str, ...]
    titles: tuple[str, ...]


_GERMAN = Grammar(
    openers=("Im vergangenen Jahr", "Am frühen Morgen", "Nach langer Zeit", "Trotz des Regens"),
    subjects=("hat der Verein", "hat unsere Nachbarin", "hat die Gemeinde", "hat mein Bruder"),
    verbs=("ausführlich über", "noch einmal über", "zum ersten Mal über", "ganz offen über"),
    objects=(
        "die neuen Öffnungszeiten gesprochen",
        "die Geschichte der Stadt berichtet",
        "die Pläne für den Herbst nachgedacht",
        "das Wetter der letzten Woche geklagt",
        "die Kosten der Reise gestritten",
    ),
    endings=(
        "",
        ", obwohl niemand gefragt hatte",
        ", und alle waren zufrieden",
        " und dann gelacht",
    ),
    captions=(
        "Eine alte Aufnahme aus dem Album meiner Großeltern, entstanden",
        "Hier sieht man, was wir auf unserer letzten Reise erlebt haben,",
        "Dieses Bild hat mir ein guter Freund geschickt, aufgenommen",
        "So sah es damals aus, kurz bevor der Regen kam,",
    ),
    places=("in der Nähe des Bahnhofs", "auf dem Weg nach Hause", "hinter der alten Schule"),
    titles=("Neues aus dem Dorf", "Ein Tag im Herbst", "Bericht über unsere Reise"),
)
_FRENCH = Grammar(
    openers=("L'année dernière", "Tôt le matin", "Après les vacances", "Malgré la pluie"),
    subjects=("le comité", "notre voisine", "la commune", "mon frère"),
    verbs=("a longuement parlé", "s'est encore occupé", "a enfin discuté", "s'est beaucoup plaint"),
    objects=(
        "des nouveaux horaires d'ouverture",
        "de l'histoire de la ville",
        "du programme de cet automne",
        "de la météo de la semaine",
        "du prix de ce long voyage",
    ),
    endings=("", ", bien que personne ne l'ait demandé", ", et tout le monde était content", ""),
    captions=(
        "Une vieille photographie de l'album de mes grands-parents, prise",
        "Voici ce que nous avons vu pendant notre dernier voyage,",
        "Cette image m'a été envoyée par un très bon ami, prise",
        "Voilà comment c'était juste avant que la pluie n'arrive,",
    ),
    places=("près de la gare", "sur le chemin de la maison", "derrière l'ancienne école"),
    titles=("Des nouvelles du village", "Une journée d'automne", "Le récit de notre voyage"),
)
_SPANISH = Grammar(
    openers=(
        "El año pasado",
        "Muy temprano por la mañana",
        "Después de las fiestas",
        "A pesar de todo",
    ),
    subjects=("el comité", "nuestra vecina", "el ayuntamiento", "mi hermano"),
    verbs=("habló mucho tiempo", "volvió a quejarse", "se olvidó otra vez", "nos informó por fin"),
    objects=(
        "de los nuevos horarios de apertura",
        "de la historia de la ciudad",
        "del programa para este otoño",
        "del tiempo de la semana pasada",
        "del precio de aquel viaje tan largo",
    ),
    endings=("", ", aunque nadie se lo había pedido", ", y todos quedaron muy contentos", ""),
    captions=(
        "Una vieja fotografía del álbum de mis abuelos, tomada",
        "Aquí se puede ver lo que hicimos durante nuestro último viaje,",
        "Esta imagen me la envió un buen amigo hace muchos años, tomada",
        "Así era todo poco antes de que llegara la lluvia,",
    ),
    places=("cerca de la estación", "en el camino a casa", "detrás de la antigua escuela"),
    titles=("Noticias del pueblo", "Un día de otoño", "El relato de nuestro viaje"),
)
_DUTCH = Grammar(
    openers=("Vorig jaar", "Vroeg in de ochtend", "Na de vakantie", "Ondanks de regen"),
    subjects=(
        "heeft de vereniging",
        "heeft onze buurvrouw",
        "heeft de gemeente",
        "heeft mijn broer",
    ),
    verbs=("uitgebreid over", "nog een keer over", "voor het eerst over", "heel eerlijk over"),
    objects=(
        "de nieuwe openingstijden gesproken",
        "de geschiedenis van de stad verteld",
        "de plannen voor het najaar nagedacht",
        "het weer van de afgelopen week geklaagd",
        "de kosten van de lange reis gepraat",
    ),
    endings=("", ", hoewel niemand ernaar had gevraagd", ", en iedereen was tevreden", ""),
    captions=(
        "Een oude opname uit het album van mijn grootouders, gemaakt",
        "Hier zie je wat wij tijdens onze laatste reis hebben meegemaakt,",
        "Deze afbeelding heb ik van een goede vriend gekregen, gemaakt",
        "Zo zag het eruit vlak voordat de regen kwam,",
    ),
    places=("in de buurt van het station", "op de weg naar huis", "achter de oude school"),
    titles=("Nieuws uit het dorp", "Een dag in de herfst", "Verslag van onze reis"),
)
_GRAMMARS = {"de": _GERMAN, "fr": _FRENCH, "es": _SPANISH, "nl": _DUTCH}

FOREIGN = tuple(_GRAMMARS)
"""The ISO 639-1 codes of the languages that there are besides English."""


def foreign_sentence(language: str, chance: Chance) -> str:
    """Return a sentence of `language` with a full stop."""
    grammar = _GRAMMARS[language]
    words = [pick(chance, grammar.openers), pick(chance, grammar.subjects)]
    words += [pick(chance, grammar.verbs), pick(chance, grammar.objects)]
    return f"{' '.join(words)}{pick(chance, grammar.endings)}."


def foreign_paragraph(language: str, chance: Chance) -> str:
    """Return between three and seven sentences of `language`."""
    return " ".join(foreign_sentence(language, chance) for _ in range(int(chance.integers(3, 8))))


def foreign_caption(language: str, chance: Chance) -> str:
    """Return what somebody writes under a picture in `language`."""
    grammar = _GRAMMARS[language]
    return f"{pick(chance, grammar.captions)} {pick(chance, grammar.places)}."


def foreign_title(language: str, chance: Chance) -> str:
    """Return a title for a page in `language`."""
    return pick(chance, _GRAMMARS[language].titles)
