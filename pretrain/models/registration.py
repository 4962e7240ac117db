"""Makes transformers' Auto classes know our families, without importing transformers to do so.

Importing transformers and torch takes seconds, and most commands need neither. So the families are
registered at the moment when somebody imports the Auto classes, by a finder that stands in front
of Python's own and lets them load as usual.
"""

import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from pretrain.models.families import FAMILIES


def _register_configurations() -> None:
    from transformers.models.auto.configuration_auto import AutoConfig

    for family in FAMILIES.values():
        AutoConfig.register(family.model_type, family.configuration, exist_ok=True)


def _register_models() -> None:
    from transformers.models.auto.modeling_auto import AutoModel, AutoModelForPreTraining

    for family in FAMILIES.values():
        AutoModel.register(family.configuration, family.network, exist_ok=True)
        AutoModelForPreTraining.register(family.configuration, family.pretraining, exist_ok=True)


_REGISTRATIONS: dict[str, Callable[[], None]] = {
    "transformers.models.auto.configuration_auto": _register_configurations,
    "transformers.models.auto.modeling_auto": _register_models,
}


class _ThenRegister(Loader):
    """Loads a module as its own loader does, then registers what waits for it."""

    def __init__(self, loader: Loader, register: Callable[[], None]) -> None:
        self._loader, self._register = loader, register

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._register()


class _AutoClassesFinder(MetaPathFinder):
    """Finds the modules of the Auto classes, each once, and leaves all others alone."""

    def __init__(self) -> None:
        self._waiting = dict(_REGISTRATIONS)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        register = self._waiting.pop(fullname, None)
        if register is None:
            return None
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _ThenRegister(spec.loader, register)
        return spec


def register_when_imported() -> None:
    """Register our families now if the Auto classes are imported, else when they will be."""
    if any(isinstance(finder, _AutoClassesFinder) for finder in sys.meta_path):
        return
    finder = _AutoClassesFinder()
    for name, register in _REGISTRATIONS.items():
        if name in sys.modules:
            finder._waiting.pop(name)
            register()
    sys.meta_path.insert(0, finder)
