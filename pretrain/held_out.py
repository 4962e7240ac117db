"""The losses on a held-out corpus while a stage trains, which change nothing of the training."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from data_pipeline.corpus.reader import Corpus
from pretrain import objectives
from pretrain.batches.order import SampleOrder
from pretrain.batches.stored import placed
from pretrain.construction import Parts, batches
from pretrain.feeding import Feed
from pretrain.measured import Measured
from pretrain.ranks import Ranks
from pretrain.recipe import PretrainRecipe, StageRecipe
from trawl import chance
from trawl.errors import RequestError


@dataclass(frozen=True)
class HeldOut:
    """Evaluates every so many steps, the same samples with the same masks each time."""

    every_steps: int
    passes: int
    """Micro-batches of each rank."""
    engine: Any
    feed: Feed
    stage: StageRecipe
    seed: int
    ranks: Ranks

    @torch.no_grad()
    def after(self, done: int, beat: Callable[[str], None]) -> dict[str, float] | None:
        """Return the mean loss of each objective after `done` steps, None where it is not due."""
        if done % self.every_steps and done != self.stage.steps:
            return None
        before = torch.get_rng_state()
        self.engine.eval()
        measured = Measured(list(self.stage.objectives))
        for portion in self.feed.portions(0, self.passes):
            for number, batch in portion.passes:
                beat(f"evaluating after step {done}")
                torch.manual_seed(chance.seed_of(self.seed, "held-out", portion.step, number))
                read = placed(batch, self.ranks.device)
                loss = objectives.compute(self.engine(**read), read, self.stage.objectives)
                measured.add(*loss, number)
        measured.agree(self.ranks, False)
        self.engine.train()
        torch.set_rng_state(before)
        return {"loss": measured.loss, **dict(zip(measured.names, measured.losses, strict=True))}


def held_out(
    recipe: PretrainRecipe,
    stage: StageRecipe,
    parts: Parts,
    engine: Any,
    micro_batch: int,
    ranks: Ranks,
) -> HeldOut | None:
    """Return the evaluation that `recipe` asks for while `stage` trains, if any.

    Raises RequestError where it names no corpus, or one that lacks what the objectives need.
    """
    every = recipe.watch.evaluate_steps
    if not every:
        return None
    if recipe.evaluation.corpus is None:
        raise RequestError("watch.evaluate_steps needs a corpus; name one in evaluation.corpus")
    corpus = Corpus(recipe.evaluation.corpus, recipe.feeding.reading())
    at_once = micro_batch * ranks.size
    # Under a name of its own, so that its masks are no stage's.
    named = stage.model_copy(update={"name": "held-out"})
    maker = batches(recipe, named, [corpus], parts.tokenizer, parts.model.config)
    order = SampleOrder([len(corpus)], [1.0], recipe.seed, "held-out")
    return HeldOut(
        every_steps=every,
        passes=max(1, recipe.watch.evaluate_samples // at_once),
        engine=engine,
        feed=Feed(order, maker, at_once, micro_batch, ranks),
        stage=stage,
        seed=recipe.seed,
        ranks=ranks,
    )
