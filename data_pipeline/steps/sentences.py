"""Step 3, detect and clean sentences: which of a candidate's texts may describe its image.

From alt, title, caption and what stands around come sentences; each is mended and judged by the
rules, and those that pass are ordered by how far their source is trusted. A candidate with none
is dropped for the fault of its most trusted text.
"""

import collections
import json

from data_pipeline.recipe import CorpusRecipe, TextFilter
from data_pipeline.steps import caption_evidence
from data_pipeline.steps.caption_evidence import Nearby, trust_of
from data_pipeline.steps.hypernyms import generalise, load_table
from data_pipeline.steps.personal_data import holds_personal_data, without_personal_data
from data_pipeline.steps.tables import TEXTS, Row, iterate_rows, write_rows
from data_pipeline.steps.text_language import is_foreign
from data_pipeline.steps.text_repair import repair, sentences, without_figure_label
from data_pipeline.steps.text_rules import TOO_SHORT, broken_rule, is_too_short, words_of
from data_pipeline.units import Result, Work

NO_TEXT = "no-text"
PERSONAL_DATA = "personal-data"
_COLUMNS = ("url", "texts", "reason", "extra")
_RUNNING_TEXT = ("surrounding", "figcaption")  # sources that hold several sentences as a rule
_MAX_TEXTS = 8
_SHOWN_LETTERS = 200


def run(work: Work) -> Result:
    """Judge the texts of the candidates of one partition."""
    counts: collections.Counter[str] = collections.Counter()
    rows = []
    judge = Judge(work.recipe)
    place = work.earlier("gather", "candidates.parquet")[work.unit.name]
    for number, candidate in enumerate(iterate_rows(place, _COLUMNS)):
        if candidate["reason"]:
            continue
        row = judge.row(json.loads(candidate["texts"]))
        if row["reason"] == NO_TEXT and candidate["extra"]:
            row["reason"] = ""  # what is said of its regions, or asked, needs no caption
        counts[row["reason"] or "passed"] += 1
        rows.append({"row": number, "url": candidate["url"], **row})
    write_rows(work.place("texts.parquet"), rows, TEXTS)
    return {"counts": dict(counts)}


class Judge:
    """Judges texts by one recipe."""

    def __init__(self, recipe: CorpusRecipe) -> None:
        self._settings: TextFilter = recipe.text_filter
        self._languages = recipe.collect.languages
        self._by_text = recipe.score.model == caption_evidence.NAME

    def row(self, texts: list[list[str]]) -> Row:
        """Return what is left of a candidate's texts (source, text), and why the rest is not."""
        passed: dict[str, tuple[float, str]] = {}
        rejected: list[list[str]] = []
        nearby = Nearby.of(texts) if self._by_text else None
        for source, raw in texts:
            for text in self.sentences_in(source, raw):
                reason = self.reason(text)
                if not reason:
                    text, reason = self._generalised(text)
                if reason:
                    rejected.append([source, reason, text[:_SHOWN_LETTERS]])
                    continue
                trust = self._settings.sources.get(source, 0.0)
                if nearby is not None:
                    trust = trust_of(text, source, trust, nearby)
                if text not in passed or trust > passed[text][0]:
                    passed[text] = (trust, source)
        ordered = sorted(passed.items(), key=lambda item: -item[1][0])[:_MAX_TEXTS]
        if not self._settings.enabled:
            ordered = list(passed.items())
        return {
            "reason": "" if ordered else self._fault(rejected),
            "texts": json.dumps(
                [[source, text, trust] for text, (trust, source) in ordered], ensure_ascii=False
            ),
            "rejected": json.dumps(rejected[:_MAX_TEXTS], ensure_ascii=False),
        }

    def sentences_in(self, source: str, raw: str) -> list[str]:
        """Return the texts that a raw text yields: itself, or its sentences where it runs on."""
        text = repair(raw)
        if not self._settings.enabled:
            return [text] if text else []
        if self._settings.personal_data == "remove":
            text = without_personal_data(text)
        text = without_figure_label(text)
        if not text:
            return []
        words = len(words_of(text))
        if source in _RUNNING_TEXT:
            # Where one sentence is no good, a credit or a notice as a rule, the others may be.
            whole = words <= self._settings.undivided_words and not self.reason(text)
            return [text] if whole else sentences(text)
        return sentences(text) if words > self._settings.max_words else [text]

    def reason(self, text: str) -> str:
        """Return why a text is dropped, "" if it is not."""
        if not self._settings.enabled:
            return ""
        reason = broken_rule(text, self._settings)
        if not reason and self._settings.personal_data == "drop":
            reason = PERSONAL_DATA if holds_personal_data(text) else ""
        if not reason and is_foreign(text, self._languages, self._settings.max_foreign):
            return "foreign-language"
        return reason

    def _generalised(self, text: str) -> tuple[str, str]:
        """Return a text with its names replaced where the recipe says by what, and the reason code
        if too little of it stays.
        """
        place = self._settings.hypernyms
        if place is None or not self._settings.enabled:
            return text, ""
        general = generalise(text, load_table(place))
        return (general, "") if not is_too_short(general, self._settings) else (text, TOO_SHORT)

    def _fault(self, rejected: list[list[str]]) -> str:
        """Return the reason of the most trusted text that was rejected, "no-text" if none was."""
        if not rejected:
            return NO_TEXT
        trust = self._settings.sources
        return max(rejected, key=lambda entry: trust.get(entry[0], 0.0))[1]
