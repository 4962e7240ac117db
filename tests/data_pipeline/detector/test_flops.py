"""Operations by stage against the table that was measured on the publishers' own modules."""

import pytest

from data_pipeline.detector.c4_config import family_config
from data_pipeline.detector.flops import StageFlops, stage_flops


def giga(count: int) -> float:
    return round(count / 1e9, 1)


def test_the_counts_of_butd_are_those_of_the_table() -> None:
    flops = stage_flops(family_config("butd"), 600, 1000, 300)
    assert giga(flops.backbone) == 166.1
    assert giga(flops.proposal_head) == 22.7
    assert giga(flops.res5) == 1757.2
    assert giga(flops.classifier + flops.regressor) == 9.8
    assert giga(flops.classifier) == 2.0
    assert giga(flops.attributes) == 0.8
    assert round(flops.total / 1e9) == pytest.approx(1957, abs=1)


def test_the_counts_of_vinvl_are_those_of_the_table() -> None:
    flops = stage_flops(family_config("vinvl"), 600, 1000, 300)
    assert giga(flops.backbone) == 550.7
    assert giga(flops.proposal_head) == 45.6
    assert giga(flops.res5) == 1028.9
    assert giga(flops.classifier + flops.regressor) == 9.8
    assert flops.attributes == 2 * 300 * (2304 * 512 + 512 * 525)  # the table has BUTD's figure
    assert round(flops.total / 1e9) == pytest.approx(1636, abs=1)


def test_fewer_regions_cost_in_proportion() -> None:
    assert giga(stage_flops(family_config("butd"), 64, 64, 36).res5) == 210.9
    assert giga(stage_flops(family_config("vinvl"), 64, 64, 36).res5) == 123.5


def test_a_narrower_image_costs_the_backbone_less() -> None:
    def backbone(family: str) -> float:
        flops: StageFlops = stage_flops(family_config(family), 600, 800, 1)
        return giga(flops.backbone)

    assert (backbone("butd"), backbone("vinvl")) == (132.1, 438.0)
