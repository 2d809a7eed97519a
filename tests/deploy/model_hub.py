"""A model hub for tests: model_hub.py FOLDER serves FOLDER as org/model@v1 the way huggingface_hub downloads a repository.

Prints its address when it listens. Knows no other repository and no other revision.
"""
import hashlib
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlparse

FOLDER = Path(sys.argv[1])
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = unquote(urlparse(self.path).path)
        files = {str(p.relative_to(FOLDER)): p for p in sorted(FOLDER.rglob("*")) if p.is_file()}
        if path in (f"/api/models/org/model/revision/{r}" for r in ("v1", COMMIT)):
            siblings = [{"rfilename": name, "size": p.stat().st_size} for name, p in files.items()]
            self.answer(json.dumps({"id": "org/model", "sha": COMMIT, "siblings": siblings, "tags": []}).encode())
        elif path in (f"/api/models/org/model/tree/{r}" for r in ("v1", COMMIT)):
            self.answer(json.dumps([{"type": "file", "path": name, "size": p.stat().st_size, "oid": etag(p)}
                                    for name, p in files.items()]).encode())
        elif path.startswith("/org/model/resolve/") and path.split("/", 5)[-1] in files:
            self.answer(files[path.split("/", 5)[-1]].read_bytes(), etag(files[path.split("/", 5)[-1]]))
        else:
            self.answer(b"{}", status=404, code="RepoNotFound")

    do_HEAD = do_GET

    def answer(self, content, tag=None, status=200, code=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Repo-Commit", COMMIT)
        if tag:
            self.send_header("ETag", f'"{tag}"')
        if code:
            self.send_header("X-Error-Code", code)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


def etag(path):
    return hashlib.sha1(path.read_bytes()).hexdigest()


server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
print(f"http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
