"""A model hub on this machine: as much of the protocol as its client needs to download a file."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType


class Hub:
    """Serves files by "owner/repository/path"; counts downloads and can break them off."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.downloads = 0
        self.ranges: list[str] = []
        self.break_after: int | None = None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        address = f"http://127.0.0.1:{self._server.server_port}"
        root = str(Path(__file__).resolve().parents[1])
        self.environment = {
            **os.environ,
            "HF_ENDPOINT": address,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_ETAG_TIMEOUT": "5",
            "PYTHONPATH": root,
        }

    def __enter__(self) -> Hub:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(hub) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - `self` is the handler below
        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self._answer(body=False)

            def do_GET(self) -> None:
                self._answer(body=True)

            def _answer(self, body: bool) -> None:
                found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", self.path)
                content = hub.files.get(f"{found[1]}/{found[2]}") if found else None
                if content is None:
                    self.send_response(404)
                    self.send_header("X-Error-Code", "RepoNotFound")
                    self.end_headers()
                    return
                start = 0
                if (asked := self.headers.get("Range")) and (
                    match := re.fullmatch(r"bytes=(\d+)-\d*", asked)
                ):
                    start = int(match[1])
                part = content[start:]
                self.send_response(206 if start else 200)
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", "0" * 40)
                self.send_header("Accept-Ranges", "bytes")
                self.send_header("Content-Length", str(len(part)))
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                    hub.ranges.append(asked or "")
                self.end_headers()
                if not body:
                    return
                hub.downloads += 1
                if hub.break_after is not None:
                    self.wfile.write(part[: hub.break_after])
                    self.wfile.flush()
                    self.connection.close()
                    return
                self.wfile.write(part)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler
