"""microsoft/unilm's names for BEiT and BEiT v2: beit/ and beit2/ at 768a3c87.

timm's names, and the index of relative positions beside every table: `relative_position_index`, int64.
"""

from __future__ import annotations

import numpy as np

from vitrail.models.configs import BEiTConfig, ModelConfig
from vitrail.models.tables import relative_index
from vitrail.weights.dialects.timm import BEIT_RULES, NUMERICS, PREFIXES, PRETRAINING
from vitrail.weights.reshapes import Array
from vitrail.weights.rules import Dialect, Made


def _index(config: ModelConfig) -> Array:
    assert isinstance(config, BEiTConfig)
    return relative_index(config.grid).astype(np.int64)


UNILM = Dialect(
    name="unilm",
    family="beit",
    prefixes=PREFIXES,
    numerics=NUMERICS,
    rules=BEIT_RULES,
    drop=PRETRAINING,
    made=(
        Made("blocks.{i}.attn.relative_position_index", _index, beside="blocks.{i}.attn.relative_position_bias_table"),
        Made("rel_pos_bias.relative_position_index", _index, beside="rel_pos_bias.relative_position_bias_table"),
    ),
)
