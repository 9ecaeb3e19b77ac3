"""The processes of one run, as torchrun starts them: who this one is, what all agree on, and how one's end ends all.

Without torchrun it is a world of one, and nothing of torch.distributed is imported.
"""

from vitrail.ranks.alone import Ranks
from vitrail.ranks.join import joined
from vitrail.ranks.world import World, world

__all__ = ["Ranks", "World", "joined", "world"]
