"""The demo: every leg of the road in turn, each done by the command that a user would give.

A leg that is done leaves a mark with its seconds and figures under OUT/legs; killed anywhere, the
same command passes over the marked legs and takes up the one at hand where it was.
"""

import hashlib
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trawl import recipe as recipes
from trawl import storage
from trawl.demo.captions import write_captions
from trawl.demo.live import live_web
from trawl.demo.recipe import DemoRecipe
from trawl.demo.web import write_web
from trawl.errors import RequestError, WorkError
from trawl.events import EventLog

Figures = dict[str, Any]


@dataclass(frozen=True)
class Road:
    """Where everything of one demo lies."""

    recipe: DemoRecipe
    out: str
    """Folder or s3:// address of the results."""
    work: Path
    """Local folder of the world and the logs."""

    def corpus(self, name: str) -> str:
        """Return the address of corpus `name`."""
        return storage.join(self.out, "corpora", name)

    @property
    def run(self) -> str:
        """Return the address of the pretraining run."""
        return storage.join(self.out, "run")

    def world(self, name: str) -> Path:
        """Return the folder of the part `name` of the world."""
        return self.work / "world" / name


def drive(recipe: DemoRecipe, out: str, work: Path | None = None) -> None:
    """Drive all legs, then write OUT/report.html and OUT/summary.json and print the table."""
    from trawl.demo.summary import print_summary, write_results

    road = Road(recipe, out, work or _default_work(out))
    _refuse_another_recipe(road)
    with EventLog(storage.join(out, "events.jsonl")) as events:
        for number, (name, leg) in enumerate(LEGS.items(), start=1):
            mark = storage.join(out, "legs", f"{name}.json")
            if storage.exists(mark):
                continue
            print(f"[{number}/{len(LEGS)}] {_TITLES[name]}", file=sys.stderr, flush=True)
            events.write("leg-started", leg=name)
            started = time.monotonic()
            figures = leg(road)
            seconds = round(time.monotonic() - started, 1)
            storage.write_json(mark, {"leg": name, "seconds": seconds, "figures": figures})
            events.write("leg-done", leg=name, seconds=seconds)
        print_summary(write_results(road), road)
        events.write("demo-done")


def _default_work(out: str) -> Path:
    """Return the local folder for `out`: itself, or a fixed place in the user's cache."""
    if not storage.is_remote(out):
        return Path(out)
    return Path.home() / ".cache" / "trawl" / "demo" / hashlib.sha256(out.encode()).hexdigest()[:16]


def _refuse_another_recipe(road: Road) -> None:
    """Write the recipe beside the results, or check that the one that lies there is the same."""
    uri = storage.join(road.out, "recipe.yaml")
    text = recipes.dump(road.recipe)
    if not storage.exists(uri):
        storage.write_text(uri, text)
    elif storage.read_text(uri) != text:
        raise RequestError(f"{uri}: the demo here has another recipe; choose another --out")


def command(road: Road, name: str, *arguments: str) -> None:
    """Run `trawl ARGUMENTS`: its progress on our stderr, what it prints in logs/NAME.log."""
    log = road.work / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        done = subprocess.run([sys.executable, "-m", "trawl", *arguments], stdout=file, check=False)
    if done.returncode:
        raise WorkError(
            f"leg {name}: `trawl {' '.join(arguments)}` ended with {done.returncode}; see {log}"
        )


def _make_web(road: Road) -> Figures:
    settings = road.recipe
    write_web(
        road.world("web"),
        settings.seed,
        settings.web_scenes,
        settings.web_sites,
        workers=settings.processes,
    )
    return {}


def _make_captions(road: Road) -> Figures:
    settings = road.recipe
    counts = {"train": settings.in_domain_scenes, "held-out": settings.held_out_scenes}
    for split, count in counts.items():
        write_captions(
            road.world(split),
            settings.seed,
            split,
            count,
            workers=settings.processes,
            captions_each=5,
        )
    return {}


def _build_web_corpus(road: Road) -> Figures:
    from trawl.demo.truth import read_truth, score_corpus

    web = road.world("web")
    with live_web(web) as address:
        command(
            road,
            "web-corpus",
            "corpus",
            "build",
            "web-demo-live",
            "--out",
            road.corpus("web"),
            "--set",
            f"collect.source.seeds=[{web / 'seeds.txt'}]",
            "--set",
            f"download.connect_to={{'*.trawl.test': '{address}'}}",
        )
    scores = score_corpus(read_truth(web), road.corpus("web"))
    return {"pairs": scores, "manifest_sha256": storage.sha256_of(_manifest(road, "web"))}


def _build_caption_corpora(road: Road) -> Figures:
    for split, corpus in (("train", "in-domain"), ("held-out", "held-out")):
        folder = road.world(split)
        command(
            road,
            f"{corpus}-corpus",
            "corpus",
            "build",
            "captions-demo",
            "--out",
            road.corpus(corpus),
            "--set",
            f"name={corpus}",
            *_sources(folder),
        )
    return {"manifest_sha256": storage.sha256_of(_manifest(road, "in-domain"))}


def _sources(folder: Path) -> list[str]:
    """Return the `--set` options that point a caption recipe to `folder`."""
    places = {
        "captions": folder / "captions.json",
        "images": folder / "images",
        "regions": folder / "regions.json",
        "questions": folder / "questions.json",
    }
    return [
        part for key, path in places.items() for part in ("--set", f"collect.source.{key}={path}")
    ]


def _manifest(road: Road, corpus: str) -> str:
    return storage.join(road.corpus(corpus), "manifest.json")


def _evaluate_detector(road: Road) -> Figures:
    result = road.work / "logs" / "detector.json"
    command(
        road,
        "detector",
        "regions",
        "evaluate",
        "--data",
        str(road.world("held-out")),
        "--out",
        str(result),
    )
    return {"detector": storage.read_json(result)}


def _pretrain(road: Road) -> Figures:
    settings = road.recipe
    changes = [
        f"seed={settings.seed}",
        f"stages.0.data.0.corpus={road.corpus('web')}",
        f"stages.1.data.0.corpus={road.corpus('in-domain')}",
        f"evaluation.corpus={road.corpus('held-out')}",
        f"evaluation.count={settings.held_out_scenes}",
        f"checkpoint.uri={road.run}",
        f"publish.uri={storage.join(road.out, 'releases')}",
        *settings.pretrain_set,
    ]
    command(
        road,
        "pretrain",
        "pretrain",
        "run",
        settings.pretrain,
        "--processes",
        str(settings.processes),
        "--work",
        str(road.work / "runs"),
        *(part for change in changes for part in ("--set", change)),
    )
    return {}


LEGS: dict[str, Callable[[Road], Figures]] = {
    "web": _make_web,
    "captions": _make_captions,
    "web-corpus": _build_web_corpus,
    "caption-corpora": _build_caption_corpora,
    "detector": _evaluate_detector,
    "pretrain": _pretrain,
}

_TITLES = {
    "web": "draw a web of scenes and its faults",
    "captions": "draw the clean caption sets",
    "web-corpus": "crawl the web live: pages -> pairs -> regions -> shards",
    "caption-corpora": "pack the caption sets: regions -> shards",
    "detector": "evaluate the detector on held-out scenes",
    "pretrain": "pretrain in two stages, evaluate and publish each",
}
