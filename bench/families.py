"""What the tiny families learn on the demo's world, and two claims of the papers put to the test.

    python bench/families.py [--demo DIR] [--only NAME ...] [--out DIR]

Trains each shipped `FAMILY-demo` recipe and prints text-to-image R@1 on 200 held-out scenes beside
chance; then Oscar with and without tags (Li et al., 2020, figure 6: tags need fewer steps to the
same loss) and ImageBERT in two stages beside one mixed stage of as many steps (Qi et al., 2020,
table 3). DIR holds the corpora of `trawl demo`, which is driven first if they are not there.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from pretrain import construction, optimizers
from pretrain.objectives import masked_tokens
from pretrain.ranks import Ranks
from pretrain.recipe import PretrainRecipe, locate
from pretrain.run_folder import RunFolder
from pretrain.schedules import learning_rate

FAMILIES = ("oscar", "imagebert", "vilbert", "lxmert", "xvlm")
SCENES = 200
WINDOW = 20
TAGLESS = {"tag_source": "none"}


@dataclass(frozen=True)
class Result:
    """One finished run."""

    folder: Path
    seconds: float

    def recall(self, stage: str) -> float:
        """Return text-to-image R@1 after `stage`."""
        place = self.folder / "stages" / stage / "evaluation.json"
        return float(json.loads(place.read_text())["retrieval"]["t2i_r1"])


def placed(recipe: dict[str, Any], corpora: Path, folder: Path) -> dict[str, Any]:
    """Return `recipe` with its corpora and its run in their places."""
    for stage in recipe["stages"]:
        for data in stage["data"]:
            data["corpus"] = str(corpora / Path(data["corpus"]).name)
    recipe["evaluation"] = {"corpus": str(corpora / "held-out"), "count": SCENES}
    recipe["checkpoint"] = {"uri": str(folder), "every_steps": 10_000, "keep_last": 1}
    recipe["publish"] = {}
    return recipe


def train(recipe: dict[str, Any], corpora: Path, folder: Path) -> Result:
    """Run `recipe` through its stages on two processes; a finished run is taken as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "asked.yaml"
    file.write_text(yaml.safe_dump(placed(recipe, corpora, folder)))
    began = time.monotonic()
    command = [sys.executable, "-m", "trawl", "pretrain", "run", str(file), "--processes", "2"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return Result(folder, time.monotonic() - began)


def shipped(name: str) -> dict[str, Any]:
    """Return the content of the shipped recipe `name`."""
    content: dict[str, Any] = yaml.safe_load(Path(locate(name)).read_text())
    return content


def steps_to(losses: list[float], wanted: float, window: int = WINDOW) -> int | None:
    """Return the first step at which the mean of the last `window` losses is at most `wanted`."""
    for step in range(window, len(losses) + 1):
        if sum(losses[step - window : step]) / window <= wanted:
            return step
    return None


def compare_families(names: list[str], corpora: Path, out: Path) -> None:
    """Train each family's demo recipe and print its recalls."""
    print(f"{'family':10} {'stage 1 R@1':>12} {'stage 2 R@1':>12} {'x chance':>9} {'seconds':>8}")
    for name in names:
        recipe = shipped(f"{name}-demo")
        result = train(recipe, corpora, out / name)
        first, last = (result.recall(stage["name"]) for stage in recipe["stages"])
        print(
            f"{name:10} {first:12.3f} {last:12.3f} {last * SCENES:9.1f} {result.seconds:8.0f}",
            flush=True,
        )


def caption_losses(recipe: dict[str, Any], folder: Path) -> list[float]:
    """Train the one stage of `recipe` in this process; return each step's loss on caption words.

    Masked tags are trained on as the recipe says and left out of the figure: they are other words,
    harder or easier to tell, and a network without tags has none.
    """
    parsed = PretrainRecipe.model_validate(recipe)
    (stage,) = parsed.stages
    ranks = Ranks(0, 0, 1, torch.device("cpu"))
    parts = construction.build(parsed, stage, RunFolder(str(folder)), ranks)
    settings = stage.optimizer
    optimizer = optimizers.build(parts.model, settings)
    size, losses = stage.batch.samples, []
    for step in range(stage.steps):
        batch = parts.maker.make(parts.order.indices(step * size, size))
        logits, labels = parts.model(**batch).prediction_logits, batch["masked_labels"]
        total = masked_tokens.loss(logits, labels)
        of_caption = batch["token_type_ids"].flatten()[batch["masked_positions"]] == 0
        losses.append(masked_tokens.loss(logits[of_caption], labels[of_caption]).item())
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(
                step, settings.lr, settings.warmup_steps, stage.steps, settings.decay
            )
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(parts.model.parameters(), settings.clip)
        optimizer.step()
    return losses


def compare_tags(corpora: Path, out: Path) -> None:
    """Print the steps that Oscar needs with and without tags to the loss that it ends at without.

    Both predict masked words alone, on the clean corpus from new weights.
    """
    recipe = shipped("oscar-demo")
    recipe["stages"] = [{**recipe["stages"][1], "objectives": {"mlm": 1.0}}]
    recipe["stages"][0].pop("init")
    curves = {}
    for name, changes in (("with-tags", {}), ("without-tags", TAGLESS)):
        own = json.loads(json.dumps(recipe))
        own["model"]["config"].update(changes)
        curves[name] = caption_losses(placed(own, corpora, out / name), out / name)
    final = sum(curves["without-tags"][-WINDOW:]) / WINDOW
    for name, curve in curves.items():
        step = steps_to(curve, final)
        last = sum(curve[-WINDOW:]) / WINDOW
        print(
            f"Oscar {name:13} reaches a loss of {final:.3f} on masked caption words at step {step} "
            f"of {len(curve)}, and ends at {last:.3f}",
            flush=True,
        )


def compare_stages(corpora: Path, out: Path) -> None:
    """Print ImageBERT's recall in two stages beside one stage on both corpora mixed."""
    recipe = shipped("imagebert-demo")
    staged = train(recipe, corpora, out / "imagebert").recall(recipe["stages"][1]["name"])
    mixed = json.loads(json.dumps(recipe))
    first, last = mixed["stages"]
    mixed["stages"] = [
        {
            **first,
            "data": [{**first["data"][0], "weight": first["steps"]}, *last["data"]],
            "steps": first["steps"] + last["steps"],
        }
    ]
    mixed["stages"][0]["data"][1]["weight"] = last["steps"]
    single = train(mixed, corpora, out / "imagebert-mixed").recall(first["name"])
    print(f"ImageBERT R@1: two stages {staged:.3f}, one mixed stage {single:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--demo", type=Path, default=Path("out/demo"))
    parser.add_argument("--out", type=Path, default=Path("out/bench/families"))
    parser.add_argument("--only", nargs="*", default=[*FAMILIES, "tags", "stages"])
    asked = parser.parse_args()
    corpora = asked.demo / "corpora"
    if not (corpora / "held-out" / "manifest.json").exists():
        subprocess.run(
            [sys.executable, "-m", "trawl", "demo", "--out", str(asked.demo)], check=True
        )
    compare_families([name for name in FAMILIES if name in asked.only], corpora, asked.out)
    if "tags" in asked.only:
        compare_tags(corpora, asked.out)
    if "stages" in asked.only:
        compare_stages(corpora, asked.out)


if __name__ == "__main__":
    main()
