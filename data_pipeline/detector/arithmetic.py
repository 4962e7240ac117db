"""Which numbers a processor computes with by itself, so that a slow choice is told beforehand."""


def is_imitated(number: str, device: str) -> bool:
    """Whether `device` only imitates `number` ("float32" or "bfloat16").

    A CPU without AVX-512 or its like converts every bfloat16: a convolution takes 8 times as long
    as in float32, where one with instructions for it takes half as long.
    """
    if number != "bfloat16" or not device.startswith("cpu"):
        return False
    import torch  # seconds, which only those wait for who ask for bfloat16

    return not torch.ops.mkldnn._is_mkldnn_bf16_supported()


def slow_number(number: str, device: str, key: str) -> list[str]:
    """Return what to warn of where `key` chose a `number` that `device` only imitates."""
    if not is_imitated(number, device):
        return []
    return [f"{key}: this CPU only imitates {number}, some 8 times slower than float32"]
