"""Contrast in one process by hand, and over two gloo ranks against one process."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.multiprocessing.spawn import spawn

from pretrain.objectives import image_text_contrast

RANKS, ROWS = 2, 3
FORMS = {"sound": image_text_contrast.loss, "published": image_text_contrast.published_loss}
# For one process, and for the two ranks: groups across the ranks, none, and on one rank alone.
GROUPS = {
    "both": [0, 1, 0, 2, 1, 3],
    "none": [0, 1, 2, 3, 4, 5],
    "first": [0, 1, 0, 3, 4, 5],
}
WITHOUT = {"both": (), "none": (0, 1), "first": (1,)}


def _inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    rows = RANKS * ROWS
    return torch.randn(rows, 5, generator=generator), torch.randn(rows, 4, generator=generator)


class Embedder(nn.Module):
    """Two projections to unit length and a temperature, as X-VLM has them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.image, self.text = nn.Linear(5, 8), nn.Linear(4, 8)
        self.temperature = nn.Parameter(torch.tensor(0.2))

    def forward(self, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        embedded = [self.image(images), self.text(texts)]
        one, other = (each / each.norm(dim=-1, keepdim=True) for each in embedded)
        return one, other, self.temperature


def _learned(form: str, rows: slice, groups: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss and each parameter's gradient, averaged over the ranks if there are any."""
    model, (images, texts) = Embedder(), _inputs()
    loss = FORMS[form](*model(images[rows], texts[rows]), groups)
    loss.backward()
    gradients = {}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        gradients[name] = parameter.grad
        if distributed.is_initialized():
            distributed.all_reduce(gradients[name])
            gradients[name] /= distributed.get_world_size()
    return loss.detach(), gradients


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS
    )
    rows = slice(rank * ROWS, (rank + 1) * ROWS)
    found = {
        (form, kind): _learned(
            form, rows, None if rank in WITHOUT[kind] else torch.tensor(numbers)[rows]
        )
        for form in FORMS
        for kind, numbers in GROUPS.items()
    }
    torch.save(found, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def spread(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What each of two ranks learned, by form and by its groups."""
    folder: Path = tmp_path_factory.mktemp("ranks")
    spawn(_rank, (str(folder),), nprocs=RANKS)
    return [torch.load(folder / f"{rank}.pt") for rank in range(RANKS)]


def test_one_process_by_hand() -> None:
    model, (images, texts) = Embedder(), _inputs()
    one, other, temperature = model(images, texts)
    logits = one @ other.T / temperature
    rows = range(len(logits))
    by_hand = torch.stack(
        [-logits[row].softmax(0)[row].log() - logits[:, row].softmax(0)[row].log() for row in rows]
    ).sum() / (2 * len(logits))
    loss = image_text_contrast.loss(one, other, temperature)
    assert float(loss.detach()) == pytest.approx(float(by_hand.detach()), rel=1e-6)


def test_a_group_shares_its_answers() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.5, 1.5, 0.0], [0.0, 0.0, 3.0]])
    groups = torch.tensor([4, 4, 9])
    rows, columns = -logits.log_softmax(1), -logits.log_softmax(0)
    to_text = ((rows[0, 0] + rows[0, 1]) / 2 + (rows[1, 0] + rows[1, 1]) / 2 + rows[2, 2]) / 3
    to_image = (columns[:2, :2].mean(0).sum() + columns[2, 2]) / 3
    loss = image_text_contrast.loss(logits, torch.eye(3), torch.tensor(1.0), groups)
    assert float(loss) == pytest.approx(float(to_text + to_image) / 2, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", GROUPS)
def test_two_ranks_learn_what_one_process_does(spread: list[dict], kind: str) -> None:
    loss, gradients = _learned("sound", slice(None), torch.tensor(GROUPS[kind]))
    for rank in spread:
        their_loss, theirs = rank["sound", kind]
        assert float(their_loss) == pytest.approx(float(loss), rel=1e-6)
        for name, gradient in gradients.items():
            assert torch.allclose(theirs[name], gradient, rtol=1e-5, atol=1e-7), name


@pytest.mark.slow
@pytest.mark.parametrize("kind", GROUPS)
def test_as_published_the_embedders_get_a_share_of_one_rank(spread: list[dict], kind: str) -> None:
    loss, gradients = _learned("published", slice(None), torch.tensor(GROUPS[kind]))
    for rank in spread:
        their_loss, theirs = rank["published", kind]
        assert float(their_loss) == pytest.approx(float(loss), rel=1e-6)
        for name, gradient in gradients.items():
            share = 1 if name == "temperature" else 1 / RANKS
            assert torch.allclose(theirs[name], gradient * share, rtol=1e-5, atol=1e-7), name
