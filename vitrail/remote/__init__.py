"""Files from the net: https or an object store, resumed, checked, kept in one cache folder; nothing is ever run."""

from vitrail.remote.cache import cache_folder, is_pulled, place, pull
from vitrail.remote.copying import fetched, is_address
from vitrail.remote.hub import hub_place, is_pulled_hub, pull_hub
from vitrail.remote.web import How

__all__ = [
    "How",
    "cache_folder",
    "fetched",
    "hub_place",
    "is_address",
    "is_pulled",
    "is_pulled_hub",
    "place",
    "pull",
    "pull_hub",
]
