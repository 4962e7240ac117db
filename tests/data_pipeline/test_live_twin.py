"""A live crawl over the pages of a WARC file builds the corpus that the file builds.

Not the same manifest hash: that names the recipe, which tells where images come from, and decisions
call an absent image `not-in-warc` in one and `http-error` in the other. All else is equal: every
shard byte for byte, and every candidate's fate.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from data_pipeline.corpus.decisions import read_decisions
from data_pipeline.corpus.manifest import read_manifest
from tests.data_pipeline.builds import trawl_corpus
from tests.data_pipeline.warc_twin import served

LABELS = Path(__file__).parents[1] / "data" / "web_candidates.jsonl"
ABSENT = ("not-in-warc", "http-error")


def _sets(changes: dict[str, Any]) -> list[str]:
    return [
        part for key, value in changes.items() for part in ("--set", f"{key}={json.dumps(value)}")
    ]


def _fates(out: Path) -> list[dict[str, Any]]:
    """Return all decisions without what tells how an image was asked for."""
    rows = list(read_decisions(str(out)))
    for row in rows:
        # The twin speaks TLS alone: what lies at a plain address is not there to be had.
        plain = row["reason"] == "connection" and row["url"].startswith("http:")
        row["reason"] = "absent" if plain or row["reason"] in ABSENT else row["reason"]
        row["scores"] = json.loads(row["scores"])
        row["scores"].pop("status", None)
    return sorted(rows, key=lambda row: (row["page"], row["position"], row["url"]))


def build_both(warc: Path, scratch: Path) -> tuple[Path, Path]:
    """Build from a WARC file and from its live twin; return both corpora."""
    same = {"collect.partitions": 1, "compute.cpus": 1}
    archived, live = scratch / "archived", scratch / "live"
    archive = {"collect.source.uris": [str(warc)], **same}
    trawl_corpus("build", "web", "--out", str(archived), *_sets(archive))
    with served(scratch, warc) as twin:
        seeds = scratch / "seeds.txt"
        seeds.write_text("\n".join(twin.pages))
        crawl = {
            "collect.source": {"kind": "crawl", "seeds": [str(seeds)], "max_depth": 0},
            "download.source": "web",
            "download.per_host_per_second": 1000,
            "download.allow_private": twin.hosts,
            "download.connect_to": dict.fromkeys(twin.hosts, twin.address),
            "download.verify_tls": False,
            **same,
        }
        crawl["collect.source"] |= {"strip_tracking": False, "max_pages_per_host": 10_000}
        trawl_corpus("build", "web", "--out", str(live), *_sets(crawl))
    return archived, live


def agreement_with_labels(corpus: Path, warc: str) -> float:
    """Return the share of the candidates labelled by eye whose fate is that of their label.

    A copy whose image is kept under another address is as good as kept.
    """
    found = {(row["page"], row["url"], row["position"]): row for row in read_decisions(str(corpus))}
    right = []
    for line in LABELS.read_text().splitlines():
        label = json.loads(line)
        if label["warc"] == warc and not label["unsure"]:
            row = found[label["page"], label["url"], label["position"]]
            copy = row["reason"] in ("duplicate", "near-duplicate")
            right.append(copy or row["kept"] == label["keep"])
    return sum(right) / len(right)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["udacity"])
def test_the_live_twin_builds_the_same_corpus(name: str, shared_data: Path, tmp_path: Path) -> None:
    archived, live = build_both(shared_data / "web" / f"{name}.warc.gz", tmp_path)
    assert read_manifest(str(live)).samples > 5
    assert read_manifest(str(live)).shards == read_manifest(str(archived)).shards
    assert _fates(live) == _fates(archived)
    assert agreement_with_labels(archived, f"{name}.warc.gz") >= 0.85
