"""The scenes of the demo's web with their true texts, none of which stands by too many pictures."""

from collections import Counter

from trawl.chance import generator
from trawl.demo.kinds import words_of
from trawl.demo.scenes import Scene, sample_scene
from trawl.demo.texts import captions

SPLIT = "web"
_MOST_USES = 3
_CAPTIONS = (4, 2, 1)
_POOL = 200
_LEAST_FITTING = 12
_MOST_FITTING = 40


class SceneBook:
    """Hands out scenes and texts: the first `good` scenes are keepable, later ones are extras.

    What it answers depends on what was asked before, so a plan asks in one fixed order.
    """

    def __init__(self, seed: int, good: int) -> None:
        self._seed = seed
        self._good = good
        self._next = good
        self._scenes: dict[int, Scene] = {}
        self._uses: Counter[str] = Counter()
        self._told: dict[int, list[str]] = {}
        self._chance = generator(seed, "strangers", good)

    def scene(self, index: int) -> Scene:
        """Return scene `index`."""
        if index not in self._scenes:
            self._scenes[index] = sample_scene(self._seed, SPLIT, index)
        return self._scenes[index]

    def size(self, index: int) -> tuple[int, int]:
        """Return width and height of scene `index`."""
        return self.scene(index).width, self.scene(index).height

    def extra(self) -> int:
        """Return the index of a scene that nothing has shown yet."""
        self._next += 1
        return self._next - 1

    def true_texts(self, index: int, count: int) -> list[str]:
        """Return up to `count` captions of scene `index`, at least one, as sentences.

        Asked again, it goes on with captions not given before while there are any. A caption that
        happens to be true of several scenes is not given for more than a few of them.
        """
        if index not in self._told:
            found = [_as_sentence(text) for text in _captions(self.scene(index))]
            fresh = [text for text in dict.fromkeys(found) if self._uses[text] < _MOST_USES]
            self._told[index] = fresh or [min(found, key=lambda text: self._uses[text])]
        told = self._told[index]
        given = told[:count]
        self._told[index] = told[count:] + given
        self._uses.update(given)
        return given

    def short_text(self, index: int) -> str:
        """Return two words that are true of scene `index` and too few for a caption."""
        first = self.scene(index).objects[0]
        return f"{first.colour} {first.kind.split()[-1]}"

    def stranger_to(self, index: int) -> int:
        """Return a keepable scene that shares no kind of object with scene `index`."""
        kinds = {item.kind for item in self.scene(index).objects}
        while True:
            other = int(self._chance.integers(self._good))
            if not kinds & {item.kind for item in self.scene(other).objects}:
                return other

    def stock(self, count: int) -> tuple[str, list[int], list[int]]:
        """Return a kind, extra scenes that show it, and others that do not: `count` together."""
        wanted = min(count, max(_LEAST_FITTING, min(count // 4, _MOST_FITTING)))
        pool = [self.extra() for _ in range(_POOL)]
        shown = Counter(kind for index in pool for kind in self._kinds(index))
        kind = max(sorted(shown), key=lambda name: shown[name])
        while sum(kind in self._kinds(index) for index in pool) < wanted:
            pool.append(self.extra())
        fitting = [index for index in pool if kind in self._kinds(index)][:wanted]
        others = [index for index in pool if kind not in self._kinds(index)]
        others += [self.extra() for _ in range(count - wanted - len(others))]
        others = [index for index in others if kind not in self._kinds(index)]
        return words_of(kind)[0], fitting, others[: count - wanted]

    def _kinds(self, index: int) -> set[str]:
        return {item.kind for item in self.scene(index).objects}


def _captions(scene: Scene) -> list[str]:
    """Return some captions of `scene`, fewer where the grammar has few."""
    for count in _CAPTIONS:
        try:
            return captions(scene, count, "web")
        except ValueError:  # there are not that many
            continue
    raise ValueError(f"scene {scene.index} has no caption")


def _as_sentence(text: str) -> str:
    """Return `text` with a capital letter at its start and a full stop at its end."""
    text = " ".join(text.split())
    return f"{text[0].upper()}{text[1:]}" + ("" if text[-1] in ".!?" else ".")
