"""The losses on a held-out corpus while a stage trains, which change nothing of the training."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from data_pipeline.corpus.reader import Corpus
from pretrain import metrics, objectives
from pretrain.batches.order import SampleOrder
from pretrain.batches.stored import placed
from pretrain.construction import Parts, batches
from pretrain.exit_codes import PreemptionError
from pretrain.feeding import Feed
from pretrain.measured import Measured
from pretrain.obedience import Source
from pretrain.ranks import Ranks
from pretrain.recipe import PretrainRecipe, StageRecipe
from pretrain.run_folder import RunFolder
from trawl import chance
from trawl.errors import RequestError


@dataclass(frozen=True)
class HeldOut:
    """Evaluates every so many steps, the same samples with the same masks each time."""

    every_steps: int
    passes: int
    """Micro-batches of each rank."""
    engine: Any
    feed: Source
    """It ends with PreemptionError when the run is told to stop."""
    stage: StageRecipe
    seed: int
    ranks: Ranks

    @torch.no_grad()
    def after(self, done: int, beat: Callable[[str], None]) -> dict[str, float] | None:
        """Return the mean loss of each objective after `done` steps.

        None where it is not due, or where the run was told to stop meanwhile: the time until the
        kill is for saving the step.
        """
        if done % self.every_steps and done != self.stage.steps:
            return None
        before = torch.get_rng_state()
        self.engine.eval()
        try:
            measured = self._measured(lambda: beat(f"evaluating after step {done}"))
        except PreemptionError:
            return None
        finally:
            self.engine.train()
            torch.set_rng_state(before)
        return {"loss": measured.loss, **dict(zip(measured.names, measured.losses, strict=True))}

    def _measured(self, beat: Callable[[], None]) -> Measured:
        """Return the losses of all passes, on all ranks together."""
        measured = Measured(list(self.stage.objectives))
        for portion in self.feed.portions(0, self.passes):
            for number, batch in portion.passes:
                beat()
                torch.manual_seed(chance.seed_of(self.seed, "held-out", portion.step, number))
                read = placed(batch, self.ranks.device)
                loss = objectives.compute(self.engine(**read), read, self.stage.objectives)
                measured.add(*loss, number)
        measured.agree(self.ranks, False)
        return measured

    def catch_up(self, run: RunFolder, done: int, beat: Callable[[str], None]) -> None:
        """Evaluate after `done` steps if a stop kept the run that made them from it."""
        lines = metrics.read(run.metrics) if self.ranks.first else []
        at = [(line["stage"], line["step"], line.get("held_out")) for line in lines[-1:]]
        if self.ranks.from_first(at == [(self.stage.name, done, None)]):
            found = self.after(done, beat)
            if self.ranks.first:
                metrics.rewrite(run.metrics, [*lines[:-1], {**lines[-1], "held_out": found}])


def held_out(
    recipe: PretrainRecipe,
    stage: StageRecipe,
    parts: Parts,
    engine: Any,
    micro_batch: int,
    ranks: Ranks,
    obedient: Callable[[Feed], Source],
) -> HeldOut | None:
    """Return the evaluation that `recipe` asks for while `stage` trains, if any.

    obedient: makes of a feed one that ends with PreemptionError when the run is told to stop.
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
        feed=obedient(Feed(order, maker, at_once, micro_batch, ranks)),
        stage=stage,
        seed=recipe.seed,
        ranks=ranks,
    )
