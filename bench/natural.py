"""The natural-image filter and keep/drop as a whole, on the labelled web, with intervals.

    python bench/natural.py [DECISIONS]

Reads the WARC files of the test data beside the checkout. Prints precision and recall of the
shipped model on the sites that it was not trained on, by site; the same of a model trained anew
without each fifth of the sites in turn; CPU milliseconds an image; and, if DECISIONS names a corpus
that was built from all the files by the recipe `web`, keep/drop against the labelled candidates.
"""

import json
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_pipeline.corpus.decisions import read_decisions
from data_pipeline.natural.examples import from_labels, made, varied
from data_pipeline.natural.model import load_model
from data_pipeline.natural.training import Examples, fit, measured

ROOT = Path(__file__).parents[1]
WEB = ROOT.parent / "shared" / "data" / "web"
LABELS = ROOT / "tests" / "data" / "natural_images.jsonl"
CANDIDATES = ROOT / "tests" / "data" / "web_candidates.jsonl"
FOLDS, MADE = 5, 300
COPIES = ("duplicate", "near-duplicate")
"""Decisions that say that another address of the image stands for this one."""


def interval(right: int, total: int) -> str:
    """Return a share with its 95% interval (Wilson)."""
    if not total:
        return "none"
    z, share = 1.96, right / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    reach = z * (share * (1 - share) / total + z * z / (4 * total**2)) ** 0.5 / (1 + z * z / total)
    return f"{share:.3f} ({middle - reach:.3f} to {middle + reach:.3f}, n {total})"


def told(kept: npt.NDArray[np.bool_], wanted: npt.NDArray[np.bool_]) -> str:
    right = int((kept & wanted).sum())
    precision, recall = interval(right, int(kept.sum())), interval(right, int(wanted.sum()))
    return f"precision {precision}  recall {recall}"


def joined(*parts: Examples) -> Examples:
    return Examples(
        parts[0].names,
        np.concatenate([part.rows for part in parts]),
        np.concatenate([part.natural for part in parts]),
        sum((part.groups for part in parts), ()),
        sum((part.keys for part in parts), ()),
    )


def without_each_site(web: Examples) -> None:
    """Train without each fifth of the sites, on made pictures and the other sites alone."""
    invented = measured(made(0, MADE))
    sites = np.array([group.removesuffix(", drawn") for group in web.groups])
    folds = {site: n % FOLDS for n, site in enumerate(sorted(set(sites.tolist())))}
    fold = np.array([folds[site] for site in sites.tolist()])
    first = {key: n for n, key in reversed(list(enumerate(web.keys)))}
    plain = np.zeros(len(sites), bool)
    plain[list(first.values())] = True
    kept = np.zeros(len(sites), bool)
    for number in range(FOLDS):
        model = fit(joined(invented, web.part(fold != number)), "bench")
        kept[fold == number] = model.probabilities(web.rows[fold == number]) >= 0.5
    print(f"without each fifth of the sites  {told(kept[plain], web.natural[plain])}")


def whole(corpus: str) -> None:
    """Compare the decisions of a built corpus with the labels."""
    rows = read_decisions(corpus)
    found = {(row["page"], row["url"], row["position"]): row for row in rows}
    for unsure in (False, True):
        kept, wanted = [], []
        for line in CANDIDATES.read_text().splitlines():
            label = json.loads(line)
            row = found[label["page"], label["url"], label["position"]]
            if (row["reason"] in COPIES and not label["keep"]) or label["unsure"] > unsure:
                continue
            kept.append(row["kept"] or row["reason"] in COPIES)
            wanted.append(label["keep"])
        name = "with those where people may differ" if unsure else "clear ones"
        print(f"keep/drop, {name:34}  {told(np.array(kept), np.array(wanted))}")


def main() -> None:
    if not WEB.is_dir():
        print("no labelled web beside this checkout")
        return
    model = load_model("builtin")
    started = time.process_time()
    pictures = list(from_labels(str(LABELS), str(WEB), held_out=True))
    decoded = time.process_time()
    new = measured(pictures)
    kept = model.probabilities(new.rows) >= 0.5
    seconds = time.process_time() - decoded
    print(f"sites held out from training     {told(kept, new.natural)}")
    wrong = Counter(
        (group, bool(natural))
        for group, natural, is_kept in zip(new.groups, new.natural, kept, strict=True)
        if natural != is_kept
    )
    for group in sorted(set(new.groups)):
        count = sum(other == group for other in new.groups)
        print(f"  {group:20} {count:4} images, photographs dropped {wrong[group, True]}, ", end="")
        print(f"graphics kept {wrong[group, False]}")
    print(f"CPU ms an image: decoding {1e3 * (decoded - started) / len(pictures):.1f}, ", end="")
    print(f"judging {1e3 * seconds / len(pictures):.1f}")
    both = [varied(from_labels(str(LABELS), str(WEB), held_out=part), 0) for part in (False, True)]
    without_each_site(joined(*map(measured, both)))
    if len(sys.argv) > 1:
        whole(sys.argv[1])


if __name__ == "__main__":
    main()
