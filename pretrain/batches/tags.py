"""The tags of a sample as text: what the detector saw, in words."""

from data_pipeline.corpus.manifest import DetectorRecord
from data_pipeline.corpus.reader import Sample


def tag_text(
    sample: Sample, detector: DetectorRecord, confidence: float, attributes: bool = False
) -> str:
    """Return the tags of `sample` joined by spaces, the surest first; empty if it has none.

    A tag whose regions are all less sure than `confidence` is left out: a rule that keeps a least
    number of regions fills up with guesses, and VinVL takes no tag below 0.2. A tag without a
    region, as from an imported corpus, stays. With `attributes`, each sure region gives its
    attribute and its object ("red umbrella"), equal ones once; `detector` names the ids.
    """
    regions = sample.regions
    sure = regions.object_conf >= confidence  # [regions]
    found = [detector.objects[number] for number in regions.object_ids]
    kept = {name for name, is_sure in zip(found, sure, strict=True) if is_sure}
    tags = [tag for tag in sample.meta["tags"] if tag in kept or tag not in found]
    if not attributes:
        return " ".join(tags)
    phrases: dict[str, dict[str, None]] = {tag: {} for tag in tags}
    for name, attribute_id, is_sure in zip(found, regions.attribute_ids, sure, strict=True):
        if is_sure and name in phrases:
            attribute = f"{detector.attributes[attribute_id]} " if attribute_id >= 0 else ""
            phrases[name][attribute + name] = None
    return " ".join(" ".join(own) if own else tag for tag, own in phrases.items())
