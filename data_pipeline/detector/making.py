"""From examples to a file of weights, and the measurement of one: the work of the commands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from data_pipeline.detector.architecture import ArchitectureConfig, FasterRcnn
from data_pipeline.detector.evaluation import LabelledBoxes, Precision, mean_average_precision
from data_pipeline.detector.example_cache import CachedExamples, write_cache
from data_pipeline.detector.examples import CocoExamples, ExampleSource, WorldExamples
from data_pipeline.detector.inference import Detector
from data_pipeline.detector.processes import ALONE, Share
from data_pipeline.detector.selection import Conventions
from data_pipeline.detector.training import Trainer, TrainingSettings, train
from data_pipeline.detector.visual_genome import VisualGenomeExamples, is_visual_genome
from data_pipeline.detector.weights import (
    DetectorDescription,
    read_description,
    save_weights,
    write_description,
)
from trawl import storage
from trawl.errors import RequestError
from trawl.events import EventLog
from trawl.progress import leg

RESIZE = "short-224-step-32"
CONVENTIONS = Conventions(boxes="regressed", label="surviving", ranked=True)
_CACHE_SIDE = 272
_EVENT_STEPS = 50
_EVALUATION_STACK = 16


def open_source(data: list[str], world: int | None, split: str, scenes: int) -> ExampleSource:
    """Examples of COCO folders, of Visual Genome's, or of a world's split; one must be given."""
    if bool(data) == (world is not None):
        raise RequestError("regions: give either --data FOLDER or --world SEED")
    if any(is_visual_genome(folder) for folder in data):
        if len(data) > 1:
            raise RequestError("regions: Visual Genome is one --data folder; give it alone")
        return VisualGenomeExamples(data[0])
    return CocoExamples(data) if data else WorldExamples(int(world or 0), split, scenes)


def make_weights(
    source: ExampleSource,
    out: Path,
    settings: TrainingSettings,
    *,
    cache: Path | None,
    workers: int,
    command: str,
    share: Share = ALONE,
) -> DetectorDescription:
    """Train on `source` and write `out` (.safetensors) with its description beside it.

    A checkpoint, and the examples when no cache is given, lie beside `out` until the work is done:
    killed anywhere, the same call goes on. Of several processes, which all see the same folders,
    each calls this with its `share`, and the first one writes.
    """
    share.rows(settings.batch)
    config = ArchitectureConfig(len(source.objects), len(source.attributes))
    trainer = Trainer(config, settings, share)
    out.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = out.with_suffix(".checkpoint")
    folder = cache or out.with_suffix(".examples")
    if share.first:
        examples = write_cache(source, str(folder), _CACHE_SIDE, workers)
        share.wait()
        with EventLog(out.with_suffix(".jsonl")) as events:
            model = _train_with_progress(trainer, examples, checkpoint, events, min(1, workers))
    else:
        share.wait()
        examples = CachedExamples(str(folder))
        model = train(trainer, examples, checkpoint, workers=min(1, workers))
    description = DetectorDescription(
        architecture=config,
        objects=source.objects,
        attributes=source.attributes,
        resize=RESIZE,
        conventions=CONVENTIONS,
        made_by={
            "command": command,
            "seconds": round(trainer.seconds),
            "steps": settings.steps,
            "images": settings.steps * settings.batch,
            "threads": torch.get_num_threads(),
        }
        | ({} if share.size == 1 else {"processes": share.size})
        | ({} if share.device.type == "cpu" else {"device": share.device.type}),
    )
    if not share.first:
        return description
    save_weights(out, model, description)
    checkpoint.unlink()
    if cache is None:
        storage.remove(folder)
    return description


def _train_with_progress(
    trainer: Trainer,
    examples: CachedExamples,
    checkpoint: Path,
    events: EventLog,
    workers: int,
) -> FasterRcnn:
    """Train, telling the step and the mean losses of the last steps to people and to the log."""
    sums: dict[str, float] = {}
    with leg("detector training", trainer.settings.steps) as progress:

        def report(step: int, losses: dict[str, float]) -> None:
            for name, loss in losses.items():
                sums[name] = sums.get(name, 0.0) + loss / _EVENT_STEPS
            progress.advance()
            if step % _EVENT_STEPS == 0:
                rounded = {name: round(loss, 4) for name, loss in sums.items()}
                events.write("detector-step", step=step, **rounded)
                progress.note(f"loss {sum(sums.values()):.3f}")
                sums.clear()

        return train(trainer, examples, checkpoint, workers=workers, report=report)


def measure(
    detector: Detector, source: ExampleSource, selection: str, overlap: float = 0.5
) -> Precision:
    """Mean average precision of a detector's regions on examples, under a selection rule."""
    if tuple(source.objects) != tuple(detector.objects):
        raise RequestError("regions evaluate: the data and the detector name other objects")
    truths, found = [], []
    with leg("detector evaluation", len(source)) as progress:
        for start in range(0, len(source), _EVALUATION_STACK):
            indices = range(start, min(len(source), start + _EVALUATION_STACK))
            examples = [source[index] for index in indices]
            answers = detector.detect([example.image for example in examples], selection)
            for example, regions in zip(examples, answers, strict=True):
                truths.append(LabelledBoxes(example.boxes, example.object_ids, np.empty(0)))
                confidences = regions.object_conf.astype(np.float32)
                found.append(LabelledBoxes(regions.boxes, regions.object_ids, confidences))
            progress.advance(len(examples))
    return mean_average_precision(truths, found, overlap)


def record_precision(weights: Path, precision: Precision, command: str, images: int) -> None:
    """Write the measured precision and the command that measured it beside the weights."""
    description = read_description(weights)
    measured = {"map50": round(precision.mean, 4), "images": images, "command": command}
    made_by = description.made_by | {"measured": measured}
    write_description(weights, replace(description, made_by=made_by))
