"""Files from the net: https only, resumed, checked, kept in one cache folder; nothing that comes is ever run."""

from vitrail.remote.cache import cache_folder, is_pulled, place, pull
from vitrail.remote.hub import hub_place, is_pulled_hub, pull_hub
from vitrail.remote.web import How

__all__ = ["How", "cache_folder", "hub_place", "is_pulled", "is_pulled_hub", "place", "pull", "pull_hub"]
