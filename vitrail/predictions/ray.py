"""Shards made by workers of Ray Data: the only place that knows it."""

from __future__ import annotations

import logging
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any, TypeVar

from vitrail.errors import SystemFault, UsageError, VitrailError

T = TypeVar("T")
Make = Callable[[int], T]


def spread(begin: Callable[[], Make[T]], numbers: Sequence[int], workers: int, *, gpu: bool) -> Iterator[T]:
    """What `begin()(number)` gives for each number, as they come; `begin` is called once by each of the workers.

    begin is pickled by what it holds. A worker claims one processor, with gpu one accelerator, of the cluster that
    RAY_ADDRESS names, or of this machine alone. An error of `begin` or of a number ends all. UsageError V003 without
    ray, V007 where the cluster has less than is claimed; SystemFault V706 where Ray gives up.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UsageError(
            "V003", "--ray needs ray, which is not installed", hint='pip install "vitrail[ray]"'
        ) from error
    try:
        with _cluster():
            claim = _claim(ray.cluster_resources(), workers, gpu=gpu)
            blocks = ray.data.from_items([{"number": number} for number in numbers], override_num_blocks=len(numbers))
            pool = ray.data.ActorPoolStrategy(size=workers)
            for row in blocks.map(_Worker, fn_constructor_args=(begin,), compute=pool, **claim).iter_rows():
                outcome = pickle.loads(row["outcome"])  # of our own workers, over Ray's own channel
                if isinstance(outcome, VitrailError):
                    raise outcome
                yield outcome
    except ray.exceptions.RayError as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[-1][:300]
        raise SystemFault(
            "V706",
            "Ray's workers did not go on",
            evidence=[said],
            hint="look at Ray's own log; then run the same command again: shards that stand are kept",
        ) from error


@contextmanager
def _cluster() -> Iterator[None]:
    """Inside, Ray runs, quiet; one that ran before is left as it is.

    What Ray prints of workers that died goes to stderr: stdout is our result's. What this process does on a signal
    stays as it was: Ray would have it abort on SIGTERM.
    """
    import ray
    import ray.data

    ours = not ray.is_initialized()
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    with redirect_stdout(sys.stderr):
        try:
            if ours:
                before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
                ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
                if threading.current_thread() is threading.main_thread():
                    for number, handler in before.items():
                        signal.signal(number, handler)
            yield
        finally:
            if ours:
                ray.shutdown()


def _claim(there: dict[str, float], workers: int, *, gpu: bool) -> dict[str, int]:
    kind = "GPU" if gpu else "CPU"
    has = int(there.get(kind, 0))
    if has < workers:
        raise UsageError(
            "V007", f"--ray {workers} claims {workers} {kind}s, the cluster has {has}", hint=f"give --ray {has} or less"
        )
    return {"num_cpus": 0 if gpu else 1, "num_gpus": 1 if gpu else 0}


class _Worker:
    """A worker: begins once, then makes one number after the other. Errors go as values: Ray would wrap them."""

    def __init__(self, begin: Callable[[], Make[Any]]) -> None:
        self._make: Make[Any] | VitrailError
        try:
            self._make = begin()
        except VitrailError as error:
            self._make = error

    def __call__(self, row: dict[str, Any]) -> dict[str, bytes]:
        return {"outcome": pickle.dumps(self._outcome(int(row["number"])))}

    def _outcome(self, number: int) -> object:
        if isinstance(self._make, VitrailError):
            return self._make
        try:
            return self._make(number)
        except VitrailError as error:
            return error
