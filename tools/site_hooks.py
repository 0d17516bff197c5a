"""What the documentation site's build does besides MkDocs: links into the sources, and a look for foreign addresses."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+(?:src|tests|tools|benchmarks|recipes|README)[^)]*\)")
"""A link from a page to a file of the repository that is no page: right in the repository, dead on the site."""

LOADED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(?:https?:)?//|<link\b[^>]*\bhref=[\"']?(?:https?:)?//"
)
"""What a browser fetches by itself from another place; links that a reader follows are none of it."""


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Leave of such links what they say."""
    return OUTSIDE.sub(r"\1", markdown)


def on_post_build(config: Any, **_: Any) -> None:
    """Refuse a site that would load anything from elsewhere."""
    for page in Path(config["site_dir"]).rglob("*.html"):
        found = LOADED.search(page.read_text(encoding="utf-8"))
        if found:
            raise ValueError(f"{page} loads something from elsewhere: {found.group()}")
