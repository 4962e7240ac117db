"""The ZeRO presets, JSON files that plain DeepSpeed reads too."""
