"""The files of a deployment, read as their programs read them."""

import ast
import inspect
import re
from pathlib import Path

import pytest
import yaml

from eb_dagster.settings import SETTINGS

FOLDER = Path(__file__).parents[1] / "example_project" / "deployment"
LONGEST_REQUEST = 300


def read(name: str) -> dict:
    return yaml.safe_load((FOLDER / name).read_text("utf-8"))


def seconds(text: str) -> int:
    return sum(int(count) * {"m": 60, "s": 1}[unit] for count, unit in re.findall(r"(\d+)([ms])", text))


def test_compose_keeps_the_ledger_and_lets_runs_end():
    compose = read("docker-compose.yml")
    services = compose["services"]
    assert set(services) == {"postgres", "code", "webserver", "daemon"}
    for name in ("code", "webserver", "daemon"):
        service = services[name]
        assert service["environment"]["EB_DAGSTER_LEDGER"].startswith("postgresql://")
        assert seconds(service["stop_grace_period"]) > LONGEST_REQUEST
        assert service["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    # The ledger outlives its container.
    assert any(volume.startswith("postgres:") for volume in services["postgres"]["volumes"])
    assert set(compose["volumes"]) == {"data", "postgres"}
    # No secret is written here, and a missing one stops it.
    text = (FOLDER / "docker-compose.yml").read_text("utf-8")
    assert set(re.findall(r"\$\{(\w+:\?)\}", text)) == {
        "POSTGRES_PASSWORD:?", "EXACTBUYER_API_KEY:?", "EXAMPLE_WAREHOUSE:?",
    }  # fmt: skip
    # Only this host reaches the pages, which have no login.
    assert all(port.startswith("127.0.0.1:") for port in services["webserver"]["ports"])
    mounted = [
        volume for service in services.values() for volume in service["volumes"] if volume.startswith("./")
    ]
    assert all((FOLDER / volume.partition(":")[0]).is_file() for volume in mounted)


def test_dagster_waits_for_what_is_in_flight():
    instance = read("dagster.yaml")
    assert instance["run_monitoring"]["cancel_timeout_seconds"] > LONGEST_REQUEST
    (server,) = [entry["grpc_server"] for entry in read("workspace.yaml")["load_from"]]
    assert server["host"] in read("docker-compose.yml")["services"]


def test_a_pod_has_time_to_end_and_is_not_started_again():
    run = read("kubernetes.yaml")["runLauncher"]["config"]["k8sRunLauncher"]["runK8sConfig"]
    assert run["podSpecConfig"]["terminationGracePeriodSeconds"] > LONGEST_REQUEST
    assert run["jobSpecConfig"]["backoffLimit"] == 0


@pytest.mark.parametrize("name", ["airflow_dag.py", "prefect_flow.py"])
def test_the_calls_of_airflow_and_prefect_are_ones_that_there_are(name):
    tree = ast.parse((FOLDER / name).read_text("utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    (call,) = [node for node in calls if isinstance(node.func, ast.Name) and node.func.id == "enrich_query"]
    known = {
        *inspect.signature(pytest.importorskip("eb_dagster.warehouse").enrich_query).parameters,
        *SETTINGS,
    }
    assert {keyword.arg for keyword in call.keywords} <= known
