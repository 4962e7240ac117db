"""A short version of `make fuzz`, with the same inputs in every run."""

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.fuzz.entrances import ENTRANCES
from tests.fuzz.spoiling import inputs


@pytest.mark.parametrize("name", ENTRANCES)
def test_spoilt_inputs_cause_no_fault(name: str) -> None:
    entrance = ENTRANCES[name]
    seeds = entrance.seeds([])

    @settings(
        max_examples=40,
        derandomize=True,
        deadline=None,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs(entrance, seeds, most=30))
    def enter(data: bytes) -> None:
        entrance.enter(data)

    for seed in seeds:
        entrance.enter(seed)
    enter()
