"""What the demo makes: how much of the world, and how long it trains."""

from pydantic import Field

from trawl.recipe import Recipe


class DemoRecipe(Recipe):
    """The sizes of the demo; the defaults end in about twelve minutes on two cores."""

    seed: int = 0
    """Seed of the world and of the pretraining."""
    web_scenes: int = Field(default=1300, ge=40)
    """Pictures of the out-of-domain web that a perfect pipeline would keep."""
    web_sites: int = Field(default=32, ge=30)
    """Sites of that web."""
    in_domain_scenes: int = Field(default=1600, ge=16)
    """Images of the clean caption set, five captions each."""
    held_out_scenes: int = Field(default=200, ge=16)
    """Images that nothing trains on: for the detector's mAP and for retrieval."""
    processes: int = Field(default=2, ge=1)
    """Ranks of the pretraining and worker processes of the world."""
    pretrain: str = "oscar-demo"
    """Recipe of the pretraining: a shipped name or a file."""
    pretrain_set: list[str] = []
    """Changes to that recipe, as `KEY=VALUE`."""
