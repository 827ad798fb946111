"""Manifests against the schemas of Kubernetes and of the Flink operator, the DAG in Airflow, policies in a linter."""

from __future__ import annotations

import json
import shlex
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.conftest import DEPLOY

MANIFESTS = sorted([*(DEPLOY / "flink").glob("*.yaml"), *(DEPLOY / "nightly").glob("*.yaml")])


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in MANIFESTS:
        for one in yaml.safe_load_all(path.read_text()):
            yield path.name, one


@pytest.fixture(scope="session")
def schemas(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Where kubeconform finds schemas: Kubernetes' own, and the operator's, taken from its jar."""
    (kubernetes,) = tools.glob("venv/lib/python*/site-packages/kubernetes_validate/kubernetes-json-schema")
    versions = kubernetes.glob("v*-local-strict")
    newest = max(versions, key=lambda path: [int(part) for part in path.name[1:].split("-")[0].split(".")])
    folder = tmp_path_factory.mktemp("schemas")
    for path in newest.glob("*.json"):
        refers = path.read_text().replace('"/api/_definitions.json', f'"file://{folder}/_definitions.json')
        (folder / path.name).write_text(refers)
    (jar,) = tools.glob("flink-kubernetes-operator-api-*.jar")
    with zipfile.ZipFile(jar) as archive:
        definition = yaml.safe_load(archive.read("META-INF/fabric8/flinkdeployments.flink.apache.org-v1.yml"))
    (version,) = definition["spec"]["versions"]
    schema = _strict(version["schema"]["openAPIV3Schema"])
    for name in ("apiVersion", "kind", "metadata"):
        schema["properties"].setdefault(name, {})
    (folder / "flinkdeployment-v1beta1.json").write_text(json.dumps(schema))
    return [
        f"{folder}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json",
        f"{folder}/{{{{.ResourceKind}}}}-{{{{.ResourceAPIVersion}}}}.json",
    ]


def _strict(schema: Any) -> Any:
    """A schema that knows no other properties than those it names, as `-strict` means it."""
    if isinstance(schema, dict):
        schema = {key: _strict(value) for key, value in schema.items()}
        if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
    return schema


def conform(tools: Path, schemas: list[str], *paths: Path) -> dict[str, Any]:
    """What kubeconform says: a status for each resource, and a summary."""
    places = [argument for place in schemas for argument in ("-schema-location", place)]
    command = [str(tools / "kubeconform"), "-strict", "-verbose", "-summary", "-output", "json", *places]
    done = subprocess.run([*command, *map(str, paths)], capture_output=True, text=True, check=False)
    return dict(json.loads(done.stdout))


def test_manifests_follow_their_schemas(tools, schemas):
    found = conform(tools, schemas, *MANIFESTS)
    wrong = [(one["name"], one["msg"]) for one in found["resources"] if one["status"] != "statusValid"]
    assert not wrong
    assert found["summary"]["valid"] == len(list(documents())) >= 10


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("cronjob.yaml", "concurrencyPolicy: Forbid", "concurrencyPolicies: Forbid"),
        ("cluster.yaml", "flinkVersion: v1_19", "flinkVersion: v9_99"),
        ("cluster.yaml", "args: [--worker_pool]", "arg: [--worker_pool]"),
        ("network-policy.yaml", "podSelector:", "podsSelector:"),
    ],
)
def test_a_wrong_manifest_is_seen(tools, schemas, tmp_path, name, right, wrong):
    path = next(one for one in MANIFESTS if one.name == name)
    assert right in path.read_text()
    (tmp_path / name).write_text(path.read_text().replace(right, wrong))
    assert conform(tools, schemas, tmp_path / name)["summary"]["invalid"]


def containers(node: Any) -> Iterator[dict[str, Any]]:
    """Every container below a node of a manifest that is not Flink's own."""
    if isinstance(node, dict):
        for one in node.get("containers", []):
            if one["name"] != "flink-main-container":
                yield one
        for value in node.values():
            yield from containers(value)
    elif isinstance(node, list):
        for value in node:
            yield from containers(value)


def test_containers_may_do_little_and_only_call_the_console_script():
    found = [(name, one) for name, document in documents() for one in containers(document)]
    assert len(found) == 4
    for name, one in found:
        context = one["securityContext"]
        assert context["readOnlyRootFilesystem"] is True, name
        assert context["allowPrivilegeEscalation"] is False, name
        assert context["capabilities"] == {"drop": ["ALL"]}, name
        assert "latest" not in one["image"], name
        assert ":" in one["image"], name
        assert one["resources"]["limits"]["memory"], name
        if one["image"].startswith("corpusmill:"):
            line = one["args"] if "command" not in one else shlex.split(one["args"][0])[2:]
            assert line[0] == "run", name


def test_nights_never_run_side_by_side():
    (cron,) = [document for _, document in documents() if document["kind"] == "CronJob"]
    assert cron["spec"]["concurrencyPolicy"] == "Forbid"
    job = cron["spec"]["jobTemplate"]["spec"]
    minute, hour = map(int, cron["spec"]["schedule"].split()[:2])
    latest = hour * 3600 + minute * 60 + cron["spec"]["startingDeadlineSeconds"]
    assert latest + job["activeDeadlineSeconds"] < 24 * 3600  # each try looks up the date
    (container,) = containers(cron)
    assert "--date" in container["args"][0]


def test_the_airflow_dag_runs_one_task_a_night(tools, tmp_path):
    script = (
        "import json, importlib.util, sys\n"
        "made = []\n"
        "spec = importlib.util.spec_from_file_location('dag', sys.argv[1])\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "from airflow.sdk import DAG\n"
        "leave = DAG.__exit__\n"
        "DAG.__exit__ = lambda self, *a: (made.append(self), leave(self, *a))[1]\n"
        "spec.loader.exec_module(module)\n"
        "(dag,) = made\n"
        "(task,) = dag.tasks\n"
        "import pendulum\n"
        "night = dag.timetable.infer_manual_data_interval(run_after=pendulum.datetime(2026, 11, 28, 2, 30))\n"
        "made = [dag.dag_id, dag.max_active_runs, dag.catchup, list(task.arguments), task.image, str(night.start.date())]\n"
        "made.append([one.secret_ref.name for one in task.env_from])\n"
        "print(json.dumps(made))\n"
    )
    done = subprocess.run(
        [str(tools / "venv/bin/python"), "-c", script, str(DEPLOY / "nightly/airflow_dag.py")],
        env={"AIRFLOW_HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    name, most, catchup, arguments, image, night, secrets = json.loads(done.stdout.splitlines()[-1])
    assert (name, most, catchup) == ("corpusmill", 1, True)
    assert arguments[0] == "run"
    assert arguments[arguments.index("--date") + 1] == "{{ ds }}"
    assert "corpusmill-store" in secrets
    (cron,) = [document for _, document in documents() if document["kind"] == "CronJob"]
    (container,) = containers(cron)
    assert arguments[-2:] == container["args"][0].split()[-2:]  # as many workers
    assert night == "2026-11-27"  # what `ds` is in the run of the 28th
    assert image.startswith("corpusmill:")


POLICIES = sorted((DEPLOY / "policies").glob("s3-*.json"))


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_policies_are_sound(tools, path):
    script = (
        "import sys, parliament\n"
        "policy = parliament.analyze_policy_string(open(sys.argv[1]).read())\n"
        "print([(one.issue, one.detail) for one in policy.findings])\n"
    )
    command = [str(tools / "venv/bin/python"), "-W", "ignore", "-c", script]
    done = subprocess.run([*command, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1000:]
    assert done.stdout.strip() == "[]"


def test_policies_give_the_least():
    run, forget = (
        json.loads((DEPLOY / "policies" / f"s3-{name}.json").read_text())["Statement"] for name in ("run", "forget")
    )
    assert not [one for one in [*run, *forget] if "*" in str(one["Action"]) or one["Effect"] != "Allow"]
    removed = {
        resource.partition("NAME/")[2].partition("/")[0]
        for one in run
        for resource in one["Resource"]
        if "s3:DeleteObject" in one["Action"]
    }
    assert removed == {"work", "trial", ".probe-*"}
    assert [one["Action"] for one in forget] == ["s3:DeleteObject"]
    written = [one["Resource"] for one in run if "s3:PutObject" in one["Action"]]
    assert written == ["arn:aws:s3:::DATASETS/NAME/*"]


def test_policies_of_other_clouds_are_what_their_tools_take():
    bindings = yaml.safe_load((DEPLOY / "policies/gcs.yaml").read_text())["bindings"]
    assert all(one["role"].startswith("roles/storage.") and one["members"] for one in bindings)
    assert not [one for one in bindings if "Admin" in one["role"] or "admin" in one["role"]]
    role = json.loads((DEPLOY / "policies/azure.json").read_text())
    assert role["IsCustom"] is True
    assert all(one.startswith("Microsoft.Storage/") and "*" not in one for one in role["Actions"] + role["DataActions"])
