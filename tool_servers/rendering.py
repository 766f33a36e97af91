"""Markdown as an HTML page or a PDF. What stands in it may be hostile: it becomes text, and does nothing."""

from __future__ import annotations

import html
import warnings

import nh3
from markdown_it import MarkdownIt

from tool_servers.errors import Unavailable

TAGS = {
    *("h1", "h2", "h3", "h4", "p", "ul", "ol", "li", "table", "thead", "tbody", "tr", "th", "td"),
    *("strong", "em", "code", "pre", "blockquote", "hr", "br", "a"),
}
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem } h2 { font-size: 1.15rem; margin-top: 1.8rem; border-bottom: 1px solid #ddd }
table { border-collapse: collapse; width: 100% } th, td { border: 1px solid #ddd; padding: .3rem .5rem;
text-align: left; vertical-align: top } code { background: #f4f4f4; overflow-wrap: anywhere }
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'"  # nothing is loaded, nothing runs
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title><style>{style}</style></head>
<body>
{body}</body></html>
"""


def as_html(title: str, markdown: str) -> str:
    """A page of its own that loads nothing; links lead to http and https only, and images are left out."""
    rendered = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image").render(markdown)
    body = nh3.clean(rendered, tags=TAGS, attributes={"a": {"href"}}, url_schemes={"http", "https"})
    return PAGE.format(policy=POLICY, title=html.escape(title), style=STYLE, body=body)


def as_pdf(page: str) -> bytes:
    """A page of ours as PDF; nothing it might name is fetched. Unavailable without WeasyPrint."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it tells of libraries that it will want some day
            import weasyprint
    except (ImportError, OSError) as error:
        raise Unavailable(
            f"no PDF can be made: {error}; install the extra `pdf` and the Pango library, "
            "or leave pdf out of formats"
        ) from error
    return weasyprint.HTML(string=page, url_fetcher=_nothing).write_pdf() or b""


def _nothing(url: str, *_: object, **__: object) -> dict[str, object]:
    raise ValueError(f"{url} is not fetched: a report stands for itself")
