"""Beam's options, the stop mark, and what travels to workers."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import apache_beam as beam
import grpc
import pytest
from apache_beam.coders import VarIntCoder
from apache_beam.options.pipeline_options import DirectOptions, PortableOptions, StandardOptions
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc
from apache_beam.transforms import userstate
from apache_beam.transforms.core import CallableWrapperDoFn
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec

from pipeline import runner as runner_module
from pipeline.commit import stop_uri
from pipeline.config import Config, load_keys
from pipeline.dataflow import is_dataflow
from pipeline.errors import UsageError
from pipeline.plan import make_plan, mill_options
from pipeline.runner import ONE_PROCESS_BYTES, beam_options, cores, is_local, new_pipeline, run_pipeline, waiting_for
from pipeline.tasks import KEY_ON_WORKERS, Job
from transforms.once import TaskFault
from transforms.storage import Storage

SECRET = "0123456789abcdef0123456789abcdef"


class JobServer(beam_job_api_pb2_grpc.JobServiceServicer):
    """Tells of the options that Beam's Flink job server tells of, some of them."""

    def DescribePipelineOptions(self, *_):
        kinds = beam_job_api_pb2.PipelineOptionType
        named = {"object_reuse": kinds.BOOLEAN, "max_bundle_size": kinds.INTEGER, "savepoint_path": kinds.STRING}
        named["parallelism"] = kinds.INTEGER
        options = [beam_job_api_pb2.PipelineOptionDescriptor(name=name, type=kind) for name, kind in named.items()]
        return beam_job_api_pb2.DescribePipelineOptionsResponse(options=options)


@pytest.fixture
def job_server() -> Iterator[list[str]]:
    """Beam's options that lead to a job server in this process."""
    server = grpc.server(ThreadPoolExecutor(1))
    beam_job_api_pb2_grpc.add_JobServiceServicer_to_server(JobServer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield ["--runner=PortableRunner", f"--job_endpoint=127.0.0.1:{port}", "--environment_type=LOOPBACK"]
    server.stop(0).wait()


def test_what_the_job_server_knows_is_accepted(job_server):
    known = ["--object_reuse", "--max_bundle_size=10", "--savepoint_path", "s3://b/savepoint", "--parallelism=2"]
    options = beam_options([*job_server, *known], 1, 1)
    assert "--parallelism=2 needs 2 free slots" in str(waiting_for(options))
    assert waiting_for(beam_options([], 1, 1)) is None
    unsaid = str(waiting_for(beam_options([*job_server, "--parallelism=-1"], 1, 1)))  # which is Beam's own default
    assert "free slots" in unsaid
    assert "-1" not in unsaid
    assert "Dataflow" in str(waiting_for(beam_options(["--runner=DataflowRunner"], 1, 1)))


@pytest.mark.parametrize(
    ("argument", "said", "hint"),
    [
        ("--max_bundle_sizes=10", "Beam knows no option --max_bundle_sizes", "perhaps --max_bundle_size"),
        ("--direct-num-workers=2", "Beam knows no option --direct-num-workers", "perhaps --direct_num_workers"),
        ("--direct_num_workers=two", "--direct_num_workers: invalid int value", None),
        ("two", "no option of Beam's takes 'two'", "write --option=value"),
    ],
)
def test_what_nobody_knows_is_refused(job_server, argument, said, hint):
    with pytest.raises(UsageError, match=said) as caught:
        beam_options([*job_server, argument], 1, 1)
    assert hint is None or hint in str(caught.value.hint)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("dataflow", "DataflowRunner"),
        ("DATAFLOWRUNNER", "DataflowRunner"),
        ("apache_beam.runners.dataflow.dataflow_runner.DataflowRunner", "DataflowRunner"),
        ("direct", "DirectRunner"),
        ("mine.OwnRunner", "mine.OwnRunner"),
    ],
)
def test_a_runner_is_known_by_every_name_of_it(said, meant):
    options = beam_options([f"--runner={said}"], 1, 1)
    assert options.view_as(StandardOptions).runner == meant
    assert is_dataflow(options) == (meant == "DataflowRunner")
    assert is_local(options) == (meant == "DirectRunner")


@pytest.mark.parametrize(
    ("arguments", "workers", "mode"),
    [
        ([], 3, "multi_processing"),
        (["--direct_num_workers=1"], 1, "in_memory"),
        (["--direct_num_workers=4"], 4, "multi_processing"),
        (["--direct_num_workers=4", "--direct_running_mode=multi_threading"], 4, "multi_threading"),
    ],
)
def test_workers_are_processes_unless_said_otherwise(arguments, workers, mode, monkeypatch):
    monkeypatch.setattr(runner_module, "cores", lambda: 3)
    direct = beam_options(arguments, ONE_PROCESS_BYTES, 100).view_as(DirectOptions)
    assert (direct.direct_num_workers, direct.direct_running_mode) == (workers, mode)
    assert beam_options([], ONE_PROCESS_BYTES - 1, 100).view_as(DirectOptions).direct_num_workers == 1
    assert beam_options([], ONE_PROCESS_BYTES, 2).view_as(DirectOptions).direct_num_workers == 2


@pytest.mark.parametrize(("told", "count"), [("max 100000", 8), ("200000 100000", 2), ("50000 100000", 1), (None, 8)])
def test_cores_are_those_of_the_container(told, count, tmp_path, monkeypatch):
    if told:
        (tmp_path / "cpu.max").write_text(told)
    monkeypatch.setattr(runner_module, "_CPU_QUOTA", str(tmp_path / "cpu.max"))
    monkeypatch.setattr(runner_module.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert cores() == count


def test_workers_are_kept_between_stages(job_server):
    assert beam_options(job_server, 1, 1).view_as(PortableOptions).environment_cache_millis == 60_000
    named = beam_options([*job_server, "--environment_cache_millis=5"], 1, 1)
    assert int(named.view_as(PortableOptions).environment_cache_millis) == 5


def test_options_of_clouds_are_known():
    beam_options(["--project=p", "--temp_location=gs://b/t", "--experiments=a", "--sdk_container_image=i"], 1, 1)


@pytest.fixture
def job(tmp_path, monkeypatch) -> Job:
    monkeypatch.setenv("CORPUSMILL_KEY", SECRET)
    config, storage = Config(), Storage()
    keys = load_keys(config.split.salt)
    output, work = str(tmp_path / "out"), str(tmp_path / "work")
    options = mill_options(config, keys, make_plan(config, keys, []), output, work)
    return Job(storage, output, work, options, config.split, config.write)


def test_the_stop_mark_is_put_before_the_job_is_cancelled(job, job_server, monkeypatch):
    class Running:
        def wait_until_finish(self):
            raise KeyboardInterrupt

        def cancel(self):
            assert job.storage.exists(stop_uri(job.work))
            raise grpc.RpcError

    class Pipeline:
        def run(self):
            return Running()

    monkeypatch.setattr(runner_module, "build", lambda *_: None)
    monkeypatch.setattr(runner_module, "_dealt", lambda _: [])
    with pytest.raises(KeyboardInterrupt, match="not cancelled"):
        run_pipeline(job, Pipeline(), beam_options(job_server, 1, 1))
    assert job.storage.exists(stop_uri(job.work))


def test_a_runner_that_does_not_take_the_job_is_for_the_user_to_put_right(job, job_server, monkeypatch):
    class Pipeline:
        def run(self):
            raise NotImplementedError("jane@example.com")

    monkeypatch.setattr(runner_module, "build", lambda *_: None)
    monkeypatch.setattr(runner_module, "_dealt", lambda _: [])
    with pytest.raises(UsageError, match="did not take the job: NotImplementedError") as told:
        run_pipeline(job, Pipeline(), beam_options(job_server, 1, 1))
    assert "jane" not in str(told.value)
    with pytest.raises(NotImplementedError):  # a local runner has run it all by then
        run_pipeline(job, Pipeline(), beam_options([], 1, 1))


def test_a_newline_is_no_part_of_the_key(monkeypatch):
    monkeypatch.setenv("CORPUSMILL_KEY", SECRET)
    one = load_keys("salt").check
    monkeypatch.setenv("CORPUSMILL_KEY", f"{SECRET}\n")
    assert load_keys("salt").check == one


def test_the_key_stays_here_where_workers_have_it(job, monkeypatch):
    assert SECRET.encode() in pickle.dumps(job)
    monkeypatch.setenv(KEY_ON_WORKERS, "1")
    sent = pickle.dumps(job)
    assert SECRET.encode() not in sent
    assert pickle.loads(sent).options == job.options
    monkeypatch.setenv("CORPUSMILL_KEY", SECRET[::-1])
    with pytest.raises(TaskFault, match="another secret key"):
        pickle.loads(sent)
    monkeypatch.delenv("CORPUSMILL_KEY")
    with pytest.raises(TaskFault, match="or none"):
        pickle.loads(sent)


class Counts(beam.DoFn):
    """Has state, and counts how often its methods are looked through."""

    SEEN = ReadModifyWriteStateSpec("seen", VarIntCoder())

    def __init__(self) -> None:
        self.looked = 0

    def __dir__(self) -> list[str]:
        self.looked += 1
        return list(super().__dir__())

    def process(self, element: Any, seen: Any = beam.DoFn.StateParam(SEEN)) -> None:  # noqa: B008
        """Does nothing."""


class EqualByValue(Counts):
    def __eq__(self, other: object) -> bool:
        return isinstance(other, EqualByValue)

    __hash__ = None  # type: ignore[assignment]


def test_beam_looks_for_the_state_of_a_step_once():
    new_pipeline(beam_options([], 1, 1))
    one, other, unhashable = Counts(), Counts(), EqualByValue()
    for _ in range(3):
        for dofn in (one, other, unhashable):
            assert userstate.get_dofn_specs(dofn) == ({Counts.SEEN}, set())
            assert userstate.is_stateful_dofn(dofn)
    assert not userstate.is_stateful_dofn(CallableWrapperDoFn(str))
    assert (one.looked, other.looked, unhashable.looked) == (1, 1, 6)
