"""Postgres in a cluster: who may lead, who is waited for, and that all pools fit."""

import re
from typing import Any

import yaml

from tests.infra.k8s.rendering import K8S, of_kind, rendered
from tests.infra.scaling.horizontal import Horizontal

ALL = rendered("overlays/production")
SETS = of_kind(ALL, "StatefulSet")
LEADING: dict[str, Any] = yaml.safe_load((K8S / "postgres" / "patroni.yml").read_text())
COPYING: dict[str, Any] = yaml.safe_load((K8S / "postgres" / "copies.yml").read_text())
PGBOUNCER = dict(re.findall(r"^(\w+) = (.*)$", (K8S / "postgres" / "pgbouncer.ini").read_text(), re.MULTILINE))
RULES = (K8S.parent / "prometheus" / "rules" / "scaling.yml").read_text()


def container(name: str) -> dict[str, Any]:
    [found] = SETS[name]["spec"]["template"]["spec"]["containers"]
    return dict(found)


def test_a_primary_and_two_replicas_one_of_which_takes_over_after_30_seconds_and_has_every_commit() -> None:
    assert SETS["fleetwire-postgres"]["spec"]["replicas"] == 3
    dcs = LEADING["bootstrap"]["dcs"]
    assert dcs["ttl"] == 30
    # Patroni's own rule: else a leader that is well could lose its lead.
    assert dcs["ttl"] >= dcs["loop_wait"] + 2 * dcs["retry_timeout"]
    assert (dcs["synchronous_mode"], dcs["synchronous_node_count"]) == ("quorum", 1)
    assert dcs["postgresql"]["use_pg_rewind"] is True


def test_copies_that_come_and_go_by_load_never_lead_and_are_never_waited_for() -> None:
    assert COPYING["tags"]["nofailover"] is True
    assert COPYING["tags"]["nosync"] is True
    assert "tags" not in LEADING
    same = set(LEADING) - {"bootstrap"}
    assert {name: COPYING[name] for name in same} == {name: LEADING[name] for name in same}
    for name, file in (("fleetwire-postgres", "patroni.yml"), ("fleetwire-postgres-copies", "copies.yml")):
        assert container(name)["args"] == [f"/etc/patroni/{file}"]
        labels = SETS[name]["spec"]["template"]["metadata"]["labels"]
        # By these Patroni finds who belongs together.
        assert labels[LEADING["kubernetes"]["scope_label"]] == LEADING["scope"]
        assert LEADING["kubernetes"]["labels"].items() <= labels.items()


def test_the_service_for_writing_leads_to_whoever_leads() -> None:
    selector = of_kind(ALL, "Service")["fleetwire-postgres"]["spec"]["selector"]
    kubernetes = LEADING["kubernetes"]
    assert selector[kubernetes["role_label"]] == kubernetes["leader_label_value"]
    assert "host=fleetwire-postgres port=5432" in PGBOUNCER["fleetwire"]


def test_all_pools_fit_into_one_pooler_and_both_poolers_into_postgres() -> None:
    scalers = of_kind(ALL, "ScaledObject")
    most = {name: one["spec"]["maxReplicaCount"] for name, one in scalers.items()}
    pools = (
        most["fleetwire-api"] * 40
        + most["fleetwire-hub"] * 10
        + of_kind(ALL, "Deployment")["fleetwire-watcher"]["spec"]["replicas"] * 8
        + (most["fleetwire-worker-requests"] + most["fleetwire-worker-ai"]) * 10
    )
    assert pools < int(PGBOUNCER["max_client_conn"])
    poolers = of_kind(ALL, "Deployment")["fleetwire-pgbouncer"]["spec"]
    # One more of them while they are replaced.
    servers = (poolers["replicas"] + 1) * (int(PGBOUNCER["default_pool_size"]) + int(PGBOUNCER["reserve_pool_size"]))
    assert servers <= LEADING["bootstrap"]["dcs"]["postgresql"]["parameters"]["max_connections"] - 10
    assert int(PGBOUNCER["max_prepared_statements"]) >= 100


def test_cpu_is_counted_in_the_cores_that_a_server_asks_for() -> None:
    for name in ("fleetwire-postgres", "fleetwire-postgres-copies"):
        assert container(name)["resources"]["requests"]["cpu"] == "2"
        assert container(name)["name"] == "postgres"
    assert re.search(r'container="postgres",pod=~"fleetwire-postgres-\.\+"\}\[2m\]\)\)\) / 2$', RULES, re.MULTILINE)
    assert 'statefulset=~"fleetwire-postgres(-copies)?"' in RULES


def test_a_copy_is_added_after_two_minutes_of_load_and_no_second_one_before_the_first_is_of_use() -> None:
    horizontal = Horizontal.of(of_kind(ALL, "ScaledObject")["fleetwire-postgres-copies"])
    counts, current = [], 1
    for n in range(200):
        # As the rule says: one more than there are while it is busy, one fewer when it is not, for half an hour.
        busy = n < 80
        current = horizontal.step(n * 15.0, current, [float(current + 1 if busy else max(current - 1, 0))])
        counts.append(current)
    first, second = counts.index(2), counts.index(3)
    assert first * 15 >= 105
    assert (second - first) * 15 >= 600
    # Half an hour of quiet before one goes again.
    assert counts[80:195] == [3] * 115


def test_nothing_is_lost_by_the_disks_of_servers_that_lead() -> None:
    keep = {
        name: one["spec"]["persistentVolumeClaimRetentionPolicy"] for name, one in SETS.items() if "postgres" in name
    }
    assert keep == {
        "fleetwire-postgres": {"whenDeleted": "Retain", "whenScaled": "Retain"},
        "fleetwire-postgres-copies": {"whenDeleted": "Retain", "whenScaled": "Delete"},
    }
