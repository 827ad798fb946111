"""What Dataflow's template launcher starts: the console script, with the template's parameters as its options.

The launcher gives all in one row, as --NAME=VALUE: the template's parameters (metadata.json) and Beam's own options.
The first are the command's; the others go after `--`.
"""

import os
import shlex
import sys
from collections.abc import Sequence

VALUES = ("output", "date")  # options of the command with one value


def command(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The command line of the console script, and what its environment needs.

    >>> command(["--input=gs://a/*.gz gs://b/*.gz", "--output=gs://o", "--region=europe-west1"])[0]
    ['corpusmill', 'run', '--input', 'gs://a/*.gz', 'gs://b/*.gz', '--output', 'gs://o', '--', '--region=europe-west1']
    """
    config, ours, beam, environment = [], [], [], {}
    for argument in arguments:
        name, _, value = argument.removeprefix("--").partition("=")
        if name == "config":
            config = [value]
        elif name == "input":
            ours += ["--input", *shlex.split(value)]
        elif name == "set":
            ours += [part for assignment in shlex.split(value) for part in ("--set", assignment)]
        elif name == "key_file":
            environment["CORPUSMILL_KEY_FILE"] = value
        elif name in VALUES:
            ours += [f"--{name}", value]
        else:
            beam.append(argument)
    return ["corpusmill", "run", *config, *ours, "--", *beam], environment


if __name__ == "__main__":
    try:
        line, more = command(sys.argv[1:])
    except ValueError as error:
        sys.exit(f"corpusmill: the template's parameters: {error}; put a value with quotes or spaces in it in quotes")
    os.execvpe(line[0], line, {**os.environ, **more})
