"""Files from the net: https or an object store, resumed, checked, kept in one cache folder; nothing is ever run."""

from vitrail.remote.cache import cache_folder, place, pull
from vitrail.remote.copying import fetched, is_address
from vitrail.remote.hub import are_pulled, hub_place, is_hub, pull_hub, pull_weights
from vitrail.remote.web import How

__all__ = [
    "How",
    "are_pulled",
    "cache_folder",
    "fetched",
    "hub_place",
    "is_address",
    "is_hub",
    "place",
    "pull",
    "pull_hub",
    "pull_weights",
]
