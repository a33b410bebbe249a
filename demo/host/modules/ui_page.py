"""The page around the UI: the host's script and style, then those of every extension, from their folders."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from modules import extensions, scripts, shared
from modules.paths_internal import data_path, script_path

PAGE = Path(script_path) / "page"


def _webpath(file: str | Path) -> str:
    return f"file={file}?{Path(file).stat().st_mtime}"


def head() -> str:
    files = [PAGE / "script.js", *(file.path for file in scripts.list_scripts("javascript", ".js"))]
    styles = [
        PAGE / "style.css",
        *(Path(extension.path) / "style.css" for extension in extensions.extensions),
    ]
    tags = [f'<script type="text/javascript" src="{_webpath(file)}"></script>' for file in files]
    tags += [f'<link rel="stylesheet" href="{_webpath(file)}">' for file in styles if file.is_file()]
    return "\n".join(tags)


def served_folders() -> list[str]:
    """Folders the page may ask files of."""
    outputs = [value for key, value in shared.opts.data.items() if key.startswith("outdir_") and value]
    return [script_path, data_path, *(extension.path for extension in extensions.extensions), *outputs]


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
