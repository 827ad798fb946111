"""Real servers for tests: MinIO, and a Flink cluster with Beam's job server, on 127.0.0.1.

`install` puts them into a folder that is kept, `minio` and `flink` start and stop them, and
`python -m tests.servers smoke` shows that all of it works on this machine.
"""
