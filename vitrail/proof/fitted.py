"""Any other mean and std, found from the answers alone: the affine change of the input that explains them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vitrail.evaluation.answers import Logits
from vitrail.pictures.decode import Picture
from vitrail.pictures.policy import Policy
from vitrail.proof.faults import Fault, prepared
from vitrail.proof.network_faults import Network

STEPS = 10
MOVE = 1e-5
WORSE = 0.9  # a step that leaves more of the gaps than this ends the search
FOUND = 0.01  # of the gaps, at most what is left where it found something
SAME = 1e-4  # means and stds nearer than this are the same

Values = NDArray[np.float64]


def of_statistics(network: Network, policy: Policy, images: NDArray[np.float32], gaps: Logits) -> list[Fault]:
    """The mean and std with which the gaps (B, K) of a few pictures come out, where the search finds any.

    images (B, C, H, W): as the policy prepares them. Gauss-Newton's steps over a factor and an addend a channel.
    """
    answered = network.ask(images) + gaps

    def left(values: Values) -> Values:
        return (answered - network.ask(_moved(images, values))).ravel()

    at = np.concatenate([np.ones(policy.channels), np.zeros(policy.channels)])
    start = here = left(at)
    for _ in range(STEPS):
        slopes = np.stack([(here - left(at + MOVE * unit)) / MOVE for unit in np.eye(len(at))], axis=1)
        step = np.linalg.lstsq(slopes, here, rcond=1e-9)[0]
        tried = [at + part * step for part in (1.0, 0.5, 0.25, 0.125)]
        near = next(((to, rest) for to in tried if _shorter(rest := left(to), here)), None)
        if near is None:
            break
        at, here = near
    if not np.linalg.norm(here) < FOUND * np.linalg.norm(start):
        return []
    return _faults(policy, at)


def _shorter(rest: Values, here: Values) -> bool:
    return bool(np.linalg.norm(rest) < WORSE * np.linalg.norm(here))


def _moved(images: NDArray[np.float32], values: Values) -> NDArray[np.float64]:
    factors, addends = values.reshape(2, 1, -1, 1, 1)
    return np.asarray(images * factors + addends, np.float64)


def _faults(policy: Policy, values: Values) -> list[Fault]:
    """The statistics that were found, and those in four digits: people write few, and float32 answers bear no more."""
    factors, addends = values.reshape(2, -1)
    if not (factors > 0).all():
        return []
    std = np.array(policy.std) / factors
    mean = np.array(policy.mean) - addends * std
    return [*_fault(policy, mean, std), *_fault(policy, _short(mean), _short(std))]


def _short(values: Values) -> Values:
    return np.array([float(f"{value:.4g}") for value in values])


def _fault(policy: Policy, mean: Values, std: Values) -> list[Fault]:
    given = {"mean": (policy.mean, mean), "std": (policy.std, std)}
    said = [
        f"{name} were [{', '.join(f'{value:.4g}' for value in theirs)}]"
        for name, (ours, theirs) in given.items()
        if np.abs(theirs - ours).max() > SAME
    ]
    if not said or not (std > 0).all():
        return []
    plain, factors = prepared(policy), np.array(policy.std) / std
    moving = np.concatenate([factors, (np.array(policy.mean) - mean) / std])

    def prepare(picture: Picture) -> NDArray[np.float32]:
        return np.asarray(_moved(plain(picture)[None], moving)[0], np.float32)

    return [Fault("mean and std", " and ".join(said), prepare)]
