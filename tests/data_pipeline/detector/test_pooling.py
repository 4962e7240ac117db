"""The matrix RoIAlign against torchvision's operator."""

import torch

from data_pipeline.detector.pooling import pool, pool_plain

_BOXES = [
    torch.tensor(
        [
            [3.0, 5.0, 60.0, 80.0],
            [-5.0, -9.0, 40.0, 50.0],
            [100.0, 100.0, 250.0, 200.0],
            [0.0, 0.0, 1.0, 1.0],
            [0.0, 0.0, 192.0, 160.0],
        ]
    ),
    torch.tensor([[17.3, 20.1, 55.5, 31.9]]),
    torch.zeros(0, 4),
]


def _maps() -> torch.Tensor:
    return torch.randn(3, 12, 20, 24, generator=torch.Generator().manual_seed(0))


def test_values_agree_with_the_plain_operator() -> None:
    difference = pool(_maps(), _BOXES, 7, 8) - pool_plain(_maps(), _BOXES, 7, 8)
    assert difference.shape == (6, 12, 7, 7)
    assert difference.abs().max() <= 1e-5


def test_gradients_agree_with_the_plain_operator() -> None:
    weights = torch.randn(6, 12, 7, 7, generator=torch.Generator().manual_seed(1))
    gradients = []
    for operator in (pool, pool_plain):
        maps = _maps().requires_grad_()
        (operator(maps, _BOXES, 7, 8) * weights).sum().backward()
        gradients.append(maps.grad)
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-4, rtol=1e-4)


def test_bfloat16_stays_bfloat16_and_close() -> None:
    pooled = pool(_maps().bfloat16(), _BOXES, 7, 8)
    assert pooled.dtype == torch.bfloat16
    assert (pooled.float() - pool_plain(_maps(), _BOXES, 7, 8)).abs().max() < 0.1
