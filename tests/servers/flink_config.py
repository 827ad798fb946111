"""What a small Flink cluster on one machine is configured with: memory, ports, Java's flags.

The wheel of Flink's jars has no scripts that would work these out, so every size is written here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.servers.programs import LOOPBACK

JOB_MANAGER_HEAP_MIB = 512
JOB_SERVER_HEAP_MIB = 768


@dataclass(frozen=True)
class TaskManagerMemory:
    """Sizes in MiB of one TaskManager's JVM; the Python workers come on top."""

    slots: int
    framework_heap: int = 128
    framework_off_heap: int = 128
    task_off_heap: int = 64
    network: int = 256
    metaspace: int = 320
    overhead: int = 192

    @property
    def task_heap(self) -> int:
        return 384 + 128 * self.slots

    @property
    def managed(self) -> int:
        """Sort and hash memory; a job's plan divides a slot's share among all its groupings."""
        return 192 * self.slots

    @property
    def heap(self) -> int:
        return self.framework_heap + self.task_heap

    @property
    def direct(self) -> int:
        return self.framework_off_heap + self.task_off_heap + self.network

    def java_flags(self) -> list[str]:
        return [
            f"-Xms{self.heap}m",
            f"-Xmx{self.heap}m",
            f"-XX:MaxDirectMemorySize={self.direct}m",
            f"-XX:MaxMetaspaceSize={self.metaspace}m",
        ]


@dataclass(frozen=True)
class ClusterPorts:
    """Fixed ports of 127.0.0.1; all others Flink picks itself and tells its members."""

    rpc: int
    rest: int


def cluster_config(memory: TaskManagerMemory, ports: ClusterPorts, scratch: Path, restarts: int) -> str:
    """The text of `config.yaml` for every member of the cluster."""
    settings: dict[str, str | int] = {
        "jobmanager.rpc.address": LOOPBACK,
        "jobmanager.rpc.port": ports.rpc,
        "jobmanager.bind-host": LOOPBACK,
        "rest.address": LOOPBACK,
        "rest.bind-address": LOOPBACK,
        "rest.port": ports.rest,
        "taskmanager.host": LOOPBACK,
        "taskmanager.bind-host": LOOPBACK,
        "taskmanager.numberOfTaskSlots": memory.slots,
        "taskmanager.cpu.cores": "1.0",
        "taskmanager.memory.framework.heap.size": f"{memory.framework_heap}m",
        "taskmanager.memory.framework.off-heap.size": f"{memory.framework_off_heap}m",
        "taskmanager.memory.task.heap.size": f"{memory.task_heap}m",
        "taskmanager.memory.task.off-heap.size": f"{memory.task_off_heap}m",
        "taskmanager.memory.network.min": f"{memory.network}m",
        "taskmanager.memory.network.max": f"{memory.network}m",
        # Of 32 KiB, for each result that waits to be read: the mill's graph has dozens, and they are small. With
        # the default of 512 they would take more than a gigabyte.
        "taskmanager.network.sort-shuffle.min-buffers": 64,
        "taskmanager.memory.managed.size": f"{memory.managed}m",
        "taskmanager.memory.jvm-metaspace.size": f"{memory.metaspace}m",
        "taskmanager.memory.jvm-overhead.min": f"{memory.overhead}m",
        "taskmanager.memory.jvm-overhead.max": f"{memory.overhead}m",
        "io.tmp.dirs": str(scratch),
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.attempts": restarts,
        "restart-strategy.fixed-delay.delay": "2s",
        # A lost TaskManager shows by its broken connections at once; a long time-out forgives one
        # that is starved on a busy machine.
        "heartbeat.interval": 2000,
        "heartbeat.timeout": 30000,
        # By default 100 ms: on a busy machine a TaskManager registers twice and loses its tasks.
        "cluster.registration.initial-timeout": 5000,
        "slot.request.timeout": 60000,
        "metrics.fetcher.update-interval": 1000,
        "classloader.resolve-order": "parent-first",
        "execution.batch-shuffle-mode": "ALL_EXCHANGES_BLOCKING",
    }
    return "".join(f"{name}: {value}\n" for name, value in settings.items())


def log_config(log: Path) -> str:
    """The text of a `log4j2.properties` that writes INFO and above to `log`."""
    lines = {
        "rootLogger.level": "INFO",
        "rootLogger.appenderRef.file.ref": "file",
        "appender.file.name": "file",
        "appender.file.type": "File",
        "appender.file.fileName": str(log),
        "appender.file.layout.type": "PatternLayout",
        "appender.file.layout.pattern": "%d{HH:mm:ss.SSS} %-5p %c{1} %m%n",
    }
    return "".join(f"{name} = {value}\n" for name, value in lines.items())


def java_command(scratch: Path, log4j: Path, classpath: str, flags: list[str]) -> list[str]:
    """`java` with what all our JVMs share, up to the class to run."""
    opened = ("lang", "lang.invoke", "lang.reflect", "net", "io", "nio", "text", "time", "util")
    packages = [f"java.base/java.{name}" for name in opened]
    packages += [f"java.base/java.util.{name}" for name in ("concurrent", "concurrent.atomic")]
    packages += ["java.base/sun.net.util", "java.base/sun.nio.ch"]
    return [
        "java",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",  # these JVMs live for minutes: compile fast rather than well
        "-XX:+ExitOnOutOfMemoryError",
        f"-Djava.io.tmpdir={scratch}",
        f"-Dlog4j.configurationFile={log4j}",
        *[f"--add-opens={package}=ALL-UNNAMED" for package in packages],
        *flags,
        "-cp",
        classpath,
    ]
