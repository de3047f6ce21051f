"""What is scaled on one machine: the hubs by their devices, and the workers of each queue by its jobs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import Any, Final

from infra.onebox.autoscale import Autoscale
from infra.onebox.home import Home
from infra.onebox.hub_set import HubPolicy, HubSet
from infra.onebox.keys import KeyFiles
from infra.onebox.plan import Process, hub_port_wishes, hub_process, worker_port_wish, worker_process
from infra.onebox.ports import settle
from infra.onebox.process_set import ProcessSet
from infra.onebox.running import Running
from infra.onebox.scale_settings import ScaleSettings
from infra.onebox.settings import UpSettings
from infra.onebox.supervisor import Supervisor
from infra.onebox.worker_set import REMOVE_DEADLINE_S, Depths, WorkerPolicy
from infra.scaling.policy import Autoscaler
from infra.scaling.worker_policy import WorkerScaler
from shared.job_kinds import QUEUES

__all__ = ["Ground", "autoscalers"]

_PROCESSES: Final = 1


@dataclass(frozen=True)
class Ground:
    """What new processes are planned from. `given` is the command's environment, `environment` that of processes."""

    settings: UpSettings
    scale: ScaleSettings
    home: Home
    keys: KeyFiles
    given: Mapping[str, str]
    environment: Mapping[str, str]


def autoscalers(
    ground: Ground,
    supervisor: Supervisor,
    running: Running,
    *,
    hubs: Sequence[Process],
    workers: Sequence[Process],
    depths: Depths,
    say: Callable[[str], None],
    rand: Random,
) -> list[Autoscale[Any]]:
    """One for the hubs and one for the workers of each queue. `hubs` and `workers` run already."""
    scale = ground.scale
    listing = _Listing(running, ground.home, {"hubs": hubs, QUEUES[0]: workers})

    def make_hub(number: int) -> Process:
        port, ops_port = settle(hub_port_wishes(ground.settings, number))
        return hub_process(number, port, ops_port, ground.keys, ground.given)

    def make_worker(queue: str, number: int) -> Process:
        [ops_port] = settle([worker_port_wish(ground.settings, number, queue)])
        return worker_process(number, queue, ops_port, ground.given)

    hub_set = HubSet(
        supervisor,
        hubs,
        ground.environment,
        make=make_hub,
        tier=_PROCESSES,
        on_change=partial(listing.changed, "hubs"),
        say=say,
    )
    policy = HubPolicy(hub_set, Autoscaler(scale.rules()))
    found: list[Autoscale[Any]] = [Autoscale(hub_set, policy, period_s=scale.period_s, say=say, rand=rand)]
    for queue in QUEUES:
        worker_set = ProcessSet(
            supervisor,
            workers if queue == QUEUES[0] else (),
            ground.environment,
            make=partial(make_worker, queue),
            tier=_PROCESSES,
            on_change=partial(listing.changed, queue),
            say=say,
            noun="worker",
            remove_deadline_s=REMOVE_DEADLINE_S,
        )
        scaler = WorkerScaler(queue, scale.worker_rules(queue))
        by_depth = WorkerPolicy(worker_set, scaler, depths)
        found.append(Autoscale(worker_set, by_depth, period_s=scale.period_s, say=say, rand=rand))
    return found


class _Listing:
    """Keeps the file of what runs up to date, for the other commands."""

    def __init__(self, running: Running, home: Home, groups: Mapping[str, Sequence[Process]]) -> None:
        self._running = running
        self._home = home
        self._groups = dict(groups)
        scaled = {process.name for group in groups.values() for process in group}
        self._others = {name: port for name, port in running.ops.items() if name not in scaled}

    def changed(self, what: str, processes: Sequence[Process]) -> None:
        """These are the processes of this group now."""
        self._groups[what] = list(processes)
        urls = [hub.settings["FLEETWIRE_HUB_URL"] for hub in self._groups["hubs"]]
        ops = {process.name: process.ops_port for group in self._groups.values() for process in group}
        replace(self._running, hubs=urls, ops=self._others | ops).write(self._home)
