"""The page around the UI: the host's script and style, then those of every extension, from their folders."""

from __future__ import annotations

import html
from pathlib import Path

import gradio as gr

from modules import extensions, paths, scripts, shared


def _webpath(file: str) -> str:
    return f"file={file}?{Path(file).stat().st_mtime}"


def head() -> str:
    own = str(Path(paths.script_path) / "page" / "script.js")
    files = [own, *(file.path for file in scripts.list_scripts("javascript", ".js"))]
    modules = [file.path for file in scripts.list_scripts("javascript", ".mjs")]
    tags = [f'<script type="text/javascript" src="{_webpath(file)}"></script>' for file in files]
    tags += [f'<script type="module" src="{_webpath(file)}"></script>' for file in modules]
    styles = [str(Path(paths.script_path) / "page" / "style.css"), *scripts.list_files_with_name("style.css")]
    tags += [f'<link rel="stylesheet" property="stylesheet" href="{_webpath(file)}">' for file in styles]
    return "\n".join(tags)


def served_folders() -> list[str]:
    """Folders the page may ask files of."""
    opts = shared.opts
    outputs = [value for key, value in opts.data.items() if key.startswith("outdir_") and value]
    return [paths.script_path, paths.data_path, *(ext.path for ext in extensions.active()), *outputs]


def put_head_into_page() -> None:
    """gradio builds the page from a template; the tags go to the end of its head, as a WebUI puts them."""
    templates = gr.routes.templates
    original = getattr(templates, "_original_response", None) or templates.TemplateResponse
    templates._original_response = original
    tags = head()

    def response(*args: object, **kwargs: object) -> object:
        page = original(*args, **kwargs)
        page.body = page.body.replace(b"</head>", f"{tags}</head>".encode())
        page.init_headers()
        return page

    templates.TemplateResponse = response


def footer() -> str:
    text = "A small WebUI for trying and testing extensions. Not a replacement for a real one."
    return f"<div class='footer'>{html.escape(text)}</div>"
