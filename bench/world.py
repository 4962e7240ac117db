"""Scenes a second of the demo's world on one core, against the rate at which JPEG alone encodes.

    python bench/world.py [SCENES]

The limit is libjpeg-turbo encoding the same pictures, already rendered, in the same run. All of it
runs in one thread, and CPU time is counted, so that neighbours on the machine change little.
"""

import sys
import time
from collections.abc import Callable

import cv2
import numpy as np

from trawl.demo.render import encode_jpeg, render
from trawl.demo.scenes import sample_scene
from trawl.demo.texts import captions

SEED, SPLIT = 0, "bench"


def rate(work: Callable[[int], object], count: int) -> float:
    """Return how often `work` runs in a second of CPU time, the median of three passes."""
    passes = []
    for _ in range(3):
        started = time.process_time()
        for index in range(count):
            work(index)
        passes.append(count / (time.process_time() - started))
    return float(np.median(passes))


def main() -> None:
    cv2.setNumThreads(1)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    # The first pass draws the textures that every later scene shares.
    images = [render(sample_scene(SEED, SPLIT, index)) for index in range(count)]
    scenes = rate(lambda index: encode_jpeg(render(sample_scene(SEED, SPLIT, index))), count)
    sampled = rate(lambda index: sample_scene(SEED, SPLIT, index), count)
    texts = rate(lambda index: captions(sample_scene(SEED, SPLIT, index), 5), count)
    limit = rate(lambda index: encode_jpeg(images[index]), count)
    pixels = np.mean([image.shape[0] * image.shape[1] for image in images])
    print(f"scenes of {pixels / 1e3:.0f} thousand pixels on one core, {count} scenes, median of 3")
    print(f"sample + render + JPEG   {scenes:8.1f} scenes/s")
    print(f"sample only              {sampled:8.1f} scenes/s")
    print(f"sample + 5 captions      {texts:8.1f} scenes/s")
    print(f"JPEG only (limit)        {limit:8.1f} images/s")
    print(f"ratio to the limit       {scenes / limit:8.3f}")


if __name__ == "__main__":
    main()
