"""The README's tables are what the code says. `python -m tests.test_docs` writes them anew."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import yaml
from pydantic import BaseModel

from pipeline.config import Config
from pipeline.report import MEASURED
from tests.nights import made_night
from tests.records import write_lines
from tests.test_run import mill
from transforms.reasons import MEANING, Drop

README = Path(__file__).parents[1] / "README.md"


def reasons_table() -> str:
    rows = ["| fate | reason | meaning |", "|---|---|---|"]
    for reason, meaning in MEANING.items():
        rows.append(f"| {'dropped' if isinstance(reason, Drop) else 'quarantined'} | `{reason}` | {meaning} |")
    return "\n".join(rows)


def options_table() -> str:
    rows = ["| key | default | meaning |", "|---|---|---|"]

    def add(model: type[BaseModel], prefix: str) -> None:
        for name, field in model.model_fields.items():
            name = field.alias or name
            annotation = field.annotation
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                add(annotation, f"{prefix}{name}.")
                continue
            default = list(field.default) if isinstance(field.default, tuple) else field.default
            shown = yaml.safe_dump(default, default_flow_style=True).split("\n")[0]
            rows.append(f"| `{prefix}{name}` | `{shown}` | {field.description or ''} |")

    add(Config, "")
    return "\n".join(rows)


def with_tables(text: str) -> str:
    for mark, table in (("reasons", reasons_table()), ("options", options_table())):
        text = re.sub(
            rf"<!-- {mark} -->.*?<!-- end -->",
            lambda _, t=table, m=mark: f"<!-- {m} -->\n{t}\n<!-- end -->",
            text,
            flags=re.S,
        )
    return text


def test_the_tables_are_what_the_code_says():
    text = README.read_text(encoding="utf-8")
    assert text == with_tables(text), "write them anew: .venv/bin/python -m tests.test_docs"


def test_reports_say_what_was_measured():
    text = README.read_text(encoding="utf-8").split("## Quality of redaction", 1)[1]
    rows = re.findall(r"^\| [^|]+ \| [0-9]+ \| ([0-9.]+) / ([0-9.]+) \|", text, re.M)
    assert [(float(right), float(found)) for right, found in rows] == [one[1:] for one in MEASURED]


def test_every_option_says_what_it_is():
    assert not [row for row in options_table().splitlines()[2:] if row.endswith("|  |")]


def test_every_target_of_the_makefile_has_help():
    makefile = (README.parent / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^\.PHONY: (.*)$", makefile, flags=re.M)[0].split():
        assert re.search(rf"^{target}:.*##", makefile, flags=re.M) or target == "clean", target


def commands_of(page: str) -> list[tuple[list[str], int, list[str]]]:
    """(arguments, exit code, lines that are said) of each `$ corpusmill` in the console blocks of a page."""
    found: list[tuple[list[str], int, list[str]]] = []
    for block in re.findall(r"^```console\n(.*?)^```", page, flags=re.M | re.S):
        for line in block.splitlines():
            if line.startswith("$ "):
                command, _, code = line[2:].partition("# exit ")
                name, *arguments = shlex.split(command)
                assert name == "corpusmill"
                found.append((arguments, int(code or 0), []))
            else:
                found[-1][2].append(line)
    return found


def test_the_month_of_nights_can_be_lived_through(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = (README.parent / "docs" / "nightly.md").read_text(encoding="utf-8")
    config = re.search(r"^```yaml\n# nightly.yaml\n(.*?)^```", page, flags=re.M | re.S)
    assert config
    faster = "redact: {enabled: false}\ndedupe: {near: false}\n"  # of six runs; what the page tells is not in these
    Path("nightly.yaml").write_text(config[1] + faster, encoding="utf-8")
    for day in range(1, 7):
        write_lines(Path(f"logs/2026-11-{day:02d}.jsonl"), made_night(day, 120 if day == 4 else 20))
    commands = commands_of(page)
    assert {arguments[0] for arguments, _, _ in commands} >= {"run", "log", "diff", "why", "rollback", "expire"}
    for arguments, code, lines in commands:
        assert mill(*arguments) == code, arguments
        captured = capsys.readouterr()
        for line in lines:
            assert line in captured.out + captured.err, arguments


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")
