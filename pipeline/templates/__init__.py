"""Pages and documents that are filled in: everything is escaped unless a template says otherwise."""

from __future__ import annotations

from typing import Any

import jinja2

_PAGES = jinja2.Environment(
    loader=jinja2.PackageLoader("pipeline", "templates"),
    autoescape=jinja2.select_autoescape(["html"]),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_PAGES.filters["thousands"] = lambda number: f"{number:,}"
_PAGES.filters["percent"] = lambda share: f"{share:.1%}"
_PAGES.filters["size"] = lambda number: human_bytes(int(number))


def render(name: str, **values: Any) -> str:
    """The template filled in."""
    return _PAGES.get_template(name).render(**values)


def human_bytes(number: int) -> str:
    """A number of bytes for people.

    >>> human_bytes(512), human_bytes(1536), human_bytes(5 << 30)
    ('512 B', '1.5 KiB', '5.0 GiB')
    """
    value = float(number)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{number} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
