"""Fused kernels: each beside its plain PyTorch twin, and made a `torch.library` operation."""
