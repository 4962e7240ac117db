"""Scores by a CLIP model out of a local folder: the cosine of an image's and a text's embedding.

LAION-400M kept pairs from 0.3 on with ViT-B/32, LAION-5B from 0.28 on; negative cosines score 0.
The folder is one of transformers (config.json; CLIP, SigLIP and the like) or of open_clip
(open_clip_config.json). Batches always have their full size, so that each row of a batch is
computed in the same way whatever stands beside it: one by one is the slow twin, with equal scores.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_pipeline.images import Pixels
from trawl.errors import RequestError

Embeddings = npt.NDArray[np.float32]  # [rows, size]
Embedding = npt.NDArray[np.float32]  # [size]

OPEN_CLIP = "open_clip_config.json"
TRANSFORMERS = "config.json"
_INSTALL = "pip install 'open_clip_torch>=3.0'"


@dataclass(frozen=True)
class Clip:
    """A loaded model: what turns an image and texts into its inputs, and inputs into embeddings.

    prepare makes a tensor [3, height, width] of RGB pixels; tokenise makes inputs of texts;
    see and read return embeddings [batch, size] that are not normalised yet.
    """

    batch: int
    device: Any
    prepare: Callable[[Pixels], Any]
    tokenise: Callable[[list[str]], dict[str, Any]]
    see: Callable[[Any], Any]
    read: Callable[[dict[str, Any]], Any]

    def images(self, pictures: Iterable[Pixels]) -> Embeddings:
        """Return unit embeddings [images, size]; pictures are taken as they come, in batches."""
        import torch

        rows = []
        for found in _batches(map(self.prepare, pictures), self.batch):
            inputs = torch.stack(_filled(found, self.batch)).to(self.device)
            rows.append(_unit(self.see, inputs)[: len(found)])
        return np.concatenate(rows) if rows else np.zeros((0, 1), np.float32)

    def texts(self, texts: Sequence[str]) -> Embeddings:
        """Return unit embeddings [texts, size]; what is too long for the model is cut."""
        rows = []
        for found in _batches(texts, self.batch):
            inputs = self.tokenise(_filled(found, self.batch))
            inputs = {name: value.to(self.device) for name, value in inputs.items()}
            rows.append(_unit(self.read, inputs)[: len(found)])
        return np.concatenate(rows) if rows else np.zeros((0, 1), np.float32)


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    waiting = iter(items)
    while found := list(itertools.islice(waiting, size)):
        yield found


def _filled(items: list[Any], size: int) -> list[Any]:
    """Return `size` items, the first again and again behind those there are."""
    return items + items[:1] * (size - len(items))


def _unit(compute: Callable[[Any], Any], inputs: Any) -> Embeddings:
    """Return what `compute` makes of inputs as rows of length one."""
    import torch

    with torch.inference_mode():
        found = compute(inputs)
    found = getattr(found, "pooler_output", found).float()
    rows: Embeddings = torch.nn.functional.normalize(found, dim=-1).cpu().numpy()
    return rows


@functools.lru_cache(maxsize=1)
def load_clip(folder: str, batch: int) -> Clip:
    """Load the model in a folder, once in a process, onto the GPU if this process has one.

    RequestError: it is no CLIP model, or the library that reads it is not installed.
    """
    import torch

    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if (Path(folder) / OPEN_CLIP).exists():
        return _open_clip(folder, batch, device)
    if (Path(folder) / TRANSFORMERS).exists():
        return _transformers(folder, batch, device)
    raise RequestError(
        f"score.model: {folder}: neither {OPEN_CLIP} nor {TRANSFORMERS} lies there; name the "
        "folder of a CLIP model"
    )


def _transformers(folder: str, batch: int, device: Any) -> Clip:
    """Load a model that transformers saved; weights are read from safetensors alone."""
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    try:
        local = {"local_files_only": True, "trust_remote_code": False}
        model = AutoModel.from_pretrained(folder, use_safetensors=True, **local)
        tokenizer = AutoTokenizer.from_pretrained(folder, **local)
        processor = AutoImageProcessor.from_pretrained(folder, **local)
    except Exception as error:  # they raise whatever a damaged folder leads them to
        raise _unusable(folder, error) from error
    if not hasattr(model, "get_text_features") or not hasattr(model, "get_image_features"):
        raise RequestError(f"score.model: {folder}: {type(model).__name__} is no CLIP model")
    model = model.to(device).eval()
    length = model.config.text_config.max_position_embeddings

    def tokenise(texts: list[str]) -> dict[str, Any]:
        fixed = {"padding": "max_length", "truncation": True, "max_length": length}
        return dict(tokenizer(texts, return_tensors="pt", **fixed))

    return Clip(
        batch=batch,
        device=device,
        prepare=lambda pixels: processor(images=pixels, return_tensors="pt")["pixel_values"][0],
        tokenise=tokenise,
        see=lambda inputs: model.get_image_features(pixel_values=inputs),
        read=lambda inputs: model.get_text_features(**inputs),
    )


def _open_clip(folder: str, batch: int, device: Any) -> Clip:
    """Load a model that open_clip saved; pickled weights are read as tensors alone."""
    try:
        import open_clip
    except ImportError as error:
        raise RequestError(
            f"score.model: {folder} is a model of open_clip, which is not installed: {_INSTALL}"
        ) from error
    from PIL import Image

    try:
        place = f"local-dir:{Path(folder).resolve()}"
        model, transform = open_clip.create_model_from_pretrained(place, device=device)
        tokenizer = open_clip.get_tokenizer(place)
    except Exception as error:
        raise _unusable(folder, error) from error
    model.eval()
    return Clip(
        batch=batch,
        device=device,
        prepare=lambda pixels: transform(Image.fromarray(pixels)),
        tokenise=lambda texts: {"text": tokenizer(texts)},
        see=model.encode_image,
        read=lambda inputs: model.encode_text(inputs["text"]),
    )


def _unusable(folder: str, error: Exception) -> RequestError:
    first = (str(error).splitlines() or [""])[0]
    return RequestError(f"score.model: {folder}: not a whole CLIP model ({first}); mend the folder")


def cosine(image: Embedding, text: Embedding) -> float:
    """Return the score of unit embeddings [size]: their cosine, 0 where it is negative."""
    return max(0.0, min(1.0, float(image @ text)))
