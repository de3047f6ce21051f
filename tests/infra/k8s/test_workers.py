"""How workers are scaled in a cluster: the numbers of the policy, by the metric and the stream that the code has."""

import pytest

from infra.scaling.steadiness import TOLERANCE
from infra.scaling.worker_policy import WORKERS_MAX, WorkerRules, desired_workers
from shared.bus.job_hints import GROUP
from shared.bus.names import job_stream
from shared.job_kinds import QUEUES
from shared.telemetry.metrics import WORKER_QUEUED
from tests.infra.k8s.rendering import K8S, Manifest, of_kind, rendered
from tests.infra.k8s.test_hubs import documents

OVERLAY = "overlays/production"
RULES = WorkerRules()
SCALED = {one["metadata"]["name"]: one for one in documents(K8S / "workers-keda" / "scaled-objects.yaml")}


def spec(queue: str) -> Manifest:
    found: Manifest = SCALED[f"fleetwire-worker-{queue}"]["spec"]
    return found


def test_there_is_one_for_each_queue() -> None:
    assert set(SCALED) == {f"fleetwire-worker-{queue}" for queue in QUEUES}


@pytest.mark.parametrize("queue", QUEUES)
def test_keda_says_the_numbers_of_the_policy(queue: str) -> None:
    scaled = spec(queue)
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (RULES.workers_min, RULES.workers_max) == (3, 10)
    assert RULES.workers_max <= WORKERS_MAX
    behavior = scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    for direction, step, quiet in (("scaleUp", RULES.up, 0), ("scaleDown", RULES.down, RULES.quiet_s)):
        assert behavior[direction] == {
            "stabilizationWindowSeconds": quiet,
            "policies": [{"type": "Pods", "value": step.count, "periodSeconds": step.period_s}],
        }
    by_depth, by_stream = scaled["triggers"]
    assert by_depth["metadata"]["threshold"] == by_stream["metadata"]["lagCount"] == str(RULES.target)
    assert {by_depth["metricType"], by_stream["metricType"]} == {"AverageValue"}
    assert desired_workers(99, 3, target=RULES.target, tolerance=TOLERANCE) == 3
    assert desired_workers(100, 3, target=RULES.target, tolerance=TOLERANCE) == 4


@pytest.mark.parametrize("queue", QUEUES)
def test_the_signals_are_those_that_the_code_gives(queue: str) -> None:
    by_depth, by_stream = spec(queue)["triggers"]
    [metric] = WORKER_QUEUED.describe()
    assert by_depth["metadata"]["query"] == f'max({metric.name}{{job="fleetwire-worker",queue="{queue}"}})'
    # What is lost is an error and no zero.
    assert by_depth["metadata"]["ignoreNullValues"] == "false"
    assert (by_stream["metadata"]["stream"], by_stream["metadata"]["consumerGroup"]) == (job_stream(queue), GROUP)
    authentications = of_kind(documents(K8S / "workers-keda" / "redis-authentication.yaml"), "TriggerAuthentication")
    assert by_stream["authenticationRef"]["name"] in authentications


@pytest.mark.parametrize("queue", QUEUES)
def test_what_is_scaled_takes_the_jobs_of_that_queue(queue: str) -> None:
    deployment = of_kind(rendered(OVERLAY), "Deployment")[spec(queue)["scaleTargetRef"]["name"]]
    [worker] = deployment["spec"]["template"]["spec"]["containers"]
    given = {item["name"]: item.get("value") for item in worker["env"]}
    assert given["FLEETWIRE_WORKER_QUEUES"] == queue
