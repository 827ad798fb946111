"""The nightly run as an Airflow DAG: one task, which runs the console script in its image with the night's date.

A night that is missed is made up for by Airflow (`catchup`), one after the other; a night that is run again is
nothing new. A try after a failure resumes. What must be put right first (exit 2) and a gate (exit 3) say the same in
every try: the operator has no way to end those at once.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import DAG
from airflow.timetables.interval import CronDataIntervalTimetable
from kubernetes.client import models as k8s

with DAG(
    dag_id="corpusmill",
    # With the interval before it, so that `ds` is the day that is over. A plain cron string would give the day of the run.
    schedule=CronDataIntervalTimetable("30 2 * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1),
    catchup=True,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=10)},
    tags=["corpusmill"],
):
    KubernetesPodOperator(
        task_id="run",
        name="corpusmill",
        image="corpusmill:0.1.0",
        arguments=[
            "run",
            "/etc/corpusmill/corpusmill.yaml",
            "--require-input",
            "--date",
            "{{ ds }}",
            "--",
            "--direct_num_workers=4",
        ],
        service_account_name="corpusmill",
        labels={"app.kubernetes.io/name": "corpusmill"},
        automount_service_account_token=False,
        env_vars={"CORPUSMILL_KEY_FILE": "/var/run/secrets/corpusmill/key"},
        env_from=[k8s.V1EnvFromSource(secret_ref=k8s.V1SecretEnvSource(name="corpusmill-store", optional=True))],
        security_context=k8s.V1PodSecurityContext(
            run_as_non_root=True,
            run_as_user=1000,
            run_as_group=1000,
            fs_group=1000,
            seccomp_profile=k8s.V1SeccompProfile(type="RuntimeDefault"),
        ),
        container_security_context=k8s.V1SecurityContext(
            read_only_root_filesystem=True,
            allow_privilege_escalation=False,
            capabilities=k8s.V1Capabilities(drop=["ALL"]),
        ),
        container_resources=k8s.V1ResourceRequirements(
            requests={"cpu": "4", "memory": "6Gi", "ephemeral-storage": "8Gi"}, limits={"memory": "12Gi"}
        ),
        volume_mounts=[
            k8s.V1VolumeMount(name="config", mount_path="/etc/corpusmill", read_only=True),
            k8s.V1VolumeMount(name="key", mount_path="/var/run/secrets/corpusmill", read_only=True),
            k8s.V1VolumeMount(name="scratch", mount_path="/tmp"),
        ],
        volumes=[
            k8s.V1Volume(name="config", config_map=k8s.V1ConfigMapVolumeSource(name="corpusmill")),
            k8s.V1Volume(name="key", secret=k8s.V1SecretVolumeSource(secret_name="corpusmill-key")),
            k8s.V1Volume(name="scratch", empty_dir=k8s.V1EmptyDirVolumeSource(size_limit="8Gi")),
        ],
        get_logs=True,
        on_finish_action="delete_succeeded_pod",
    )
