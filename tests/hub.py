"""A stand-in of the Hub on this machine: what huggingface_hub asks for to upload a model, and to download it again.

It takes files as the Hub does: small ones in the commit, weights and pictures as LFS objects, which come before it.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit

import yaml

TOKEN = "hf_of_the_tests"
LARGE = (".safetensors", ".png", ".bin")  # what the Hub's first .gitattributes names
REPO = r"(?P<repo>[\w.-]+/[\w.-]+)"


def git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def metadata_of(files: dict[str, bytes]) -> dict:
    """Return the metadata of a repository's card."""
    parts = files.get("README.md", b"").decode().split("---\n", 2)
    return yaml.safe_load(parts[1]) if len(parts) == 3 else {}


class Refused(Exception):
    """The answer is an error."""

    def __init__(self, status: int, code: str, message: str, **more: str) -> None:
        super().__init__(message)
        self.status, self.code, self.more = status, code, more


class Hub:
    """Repositories, each a list of commits: (hash, message, files by path).

    `fail` makes the requests whose method and path begin so ("PUT /lfs") fail with a status; `ignored` are files that
    a .gitignore names.
    """

    def __init__(self) -> None:
        self.repos: dict[str, list[tuple[str, str, dict[str, bytes]]]] = {}
        self.objects: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.fail: dict[str, int] = {}
        self.ignored: set[str] = set()
        self.url = ""

    def files(self, repo: str) -> dict[str, bytes]:
        return self.repos[repo][-1][2]

    def commit(self, repo: str, message: str, files: dict[str, bytes]) -> str:
        number = len(self.repos.setdefault(repo, []))
        sha = hashlib.sha1(f"{repo} {number}".encode()).hexdigest()
        self.repos[repo].append((sha, message, files))
        return sha

    def _at(self, repo: str, revision: str) -> tuple[str, dict[str, bytes]]:
        if repo not in self.repos:
            raise Refused(404, "RepoNotFound", "Repository not found")
        for sha, _, files in reversed(self.repos[repo]):
            if revision in ("main", sha):
                return sha, files
        raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")

    # What is asked, each with the parts of its path and its content; what is answered is sent as JSON.

    def create(self, content: bytes) -> dict:
        wanted = json.loads(content)
        repo = f"{wanted['organization']}/{wanted['name']}"
        if repo in self.repos:
            raise Refused(409, "", "You already created this model repo", url=f"{self.url}/{repo}")
        self.commit(repo, "initial commit", {".gitattributes": b"*.safetensors filter=lfs\n"})
        return {"url": f"{self.url}/{repo}", "id": repo}

    def validate(self, content: bytes) -> dict:
        card = metadata_of({"README.md": json.loads(content)["content"].encode()})
        results = [result for model in card.get("model-index", []) for result in model["results"]]
        whole = all({"type"} <= r["task"].keys() and {"type", "name"} <= r["dataset"].keys() for r in results)
        if not whole or not all({"type", "value"} <= metric.keys() for r in results for metric in r["metrics"]):
            raise Refused(400, "", "model-index is not whole")
        return {"errors": [], "warnings": []}

    def preupload(self, content: bytes, repo: str, revision: str) -> dict:
        there = self._at(repo, revision)[1]

        def known(path: str) -> str | None:
            if path not in there:
                return None
            return hashlib.sha256(there[path]).hexdigest() if path.endswith(LARGE) else git_hash(there[path])

        paths = [file["path"] for file in json.loads(content)["files"]]
        return {
            "files": [
                {
                    "path": path,
                    "uploadMode": "lfs" if path.endswith(LARGE) else "regular",
                    "shouldIgnore": path in self.ignored,
                    "oid": known(path),
                }
                for path in paths
            ]
        }

    def batch(self, content: bytes, repo: str) -> dict:
        objects = json.loads(content)["objects"]
        for wanted in objects:
            if wanted["oid"] not in self.objects:
                wanted["actions"] = {"upload": {"href": f"{self.url}/lfs/{wanted['oid']}"}}
        return {"transfer": "basic", "objects": objects}

    def put(self, content: bytes, oid: str) -> dict:
        if hashlib.sha256(content).hexdigest() != oid:
            raise Refused(400, "", "the content is not what its name says")
        self.objects[oid] = content
        return {}

    def add(self, content: bytes, repo: str, revision: str) -> dict:
        sha, files = self._at(repo, revision)
        header, *lines = [json.loads(line) for line in content.splitlines()]
        if header["value"].get("parentCommit", sha) != sha:
            raise Refused(412, "", "A commit has happened since. Please refresh and try again.")
        files = dict(files)
        for line in lines:
            path = line["value"]["path"]
            if line["key"] == "file":
                files[path] = base64.b64decode(line["value"]["content"])
            elif line["key"] == "lfsFile":
                if line["value"]["oid"] not in self.objects:
                    raise Refused(400, "", f"{path} was not uploaded")
                files[path] = self.objects[line["value"]["oid"]]
            else:
                assert line["key"] == "deletedFile"
                del files[path]
        sha = self.commit(repo, header["value"]["summary"], files)
        return {"success": True, "commitOid": sha, "commitUrl": f"{self.url}/{repo}/commit/{sha}", "hookOutput": ""}

    def info(self, content: bytes, repo: str, revision: str | None) -> dict:
        sha, files = self._at(repo, revision or "main")
        card = metadata_of(files)
        shown = {name: card.get(name) for name in ("library_name", "pipeline_tag")}
        siblings = [{"rfilename": path} for path in sorted(files)]
        return {"id": repo, "modelId": repo, "sha": sha, "siblings": siblings, "cardData": card, **shown}

    def tree(self, content: bytes, repo: str, revision: str, folder: str | None) -> list:
        files = self._at(repo, revision)[1]
        if folder and not any(path.startswith(f"{folder}/") for path in files):
            raise Refused(404, "EntryNotFound", f"{folder} does not exist")
        entries = []
        for path, data in sorted(files.items()):
            entry = {"type": "file", "path": path, "size": len(data), "oid": git_hash(data)}
            if path.endswith(LARGE):
                entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
            entries.append(entry)
        folders = {path.rpartition("/")[0] for path in files} - {""}
        return entries + [{"type": "directory", "path": path, "oid": git_hash(path.encode())} for path in folders]

    def resolve(self, content: bytes, repo: str, revision: str, path: str) -> tuple[bytes, dict[str, str]]:
        sha, files = self._at(repo, revision)
        headers = {"X-Repo-Commit": sha}
        if path not in files:
            raise Refused(404, "EntryNotFound", f"{path} does not exist at {sha}")
        large = path.endswith(LARGE)
        etag = hashlib.sha256(files[path]).hexdigest() if large else git_hash(files[path])
        return files[path], {**headers, "ETag": f'"{etag}"'}


MODEL = rf"/api/models/{REPO}"
ROUTES = [
    ("POST", r"/api/repos/create", Hub.create),
    ("POST", r"/api/validate-yaml", Hub.validate),
    ("POST", rf"{MODEL}/preupload/(?P<revision>[\w.-]+)", Hub.preupload),
    ("POST", rf"/{REPO}\.git/info/lfs/objects/batch", Hub.batch),
    ("PUT", r"/lfs/(?P<oid>\w+)", Hub.put),
    ("POST", rf"{MODEL}/commit/(?P<revision>[\w.-]+)", Hub.add),
    ("GET", rf"{MODEL}(?:/revision/(?P<revision>[\w.-]+))?", Hub.info),
    ("GET", rf"{MODEL}/tree/(?P<revision>[\w.-]+)(?:/(?P<folder>.+))?", Hub.tree),
    ("GET", rf"/{REPO}/resolve/(?P<revision>[\w.-]+)/(?P<path>.+)", Hub.resolve),
]
WRITES = ("POST", "PUT")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def _answer(self, method: str) -> None:
        path = unquote(urlsplit(self.path).path)
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked = f"{method} {path}"
        self.hub.asked.append(asked)
        headers = {"Content-Type": "application/json"}
        try:
            status, answer = 200, self._found(method, path, asked, content)
            data, more = answer if isinstance(answer, tuple) else (json.dumps(answer).encode(), {})
            headers |= more
        except Refused as refusal:
            status, data = refusal.status, json.dumps({"error": str(refusal), **refusal.more}).encode()
            headers |= {"X-Error-Code": refusal.code, "X-Error-Message": str(refusal)}
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if method != "HEAD":
            self.wfile.write(data)

    def _found(self, method, path, asked, content):
        for start, status in self.hub.fail.items():
            if asked.startswith(start):
                raise Refused(status, "", "the Hub of the tests does not want to")
        is_object = path.startswith("/lfs/")  # their address is a secret of its own, and gets no token
        if method in WRITES and not is_object and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise Refused(401, "", "Invalid username or password.")
        for known, pattern, answer in ROUTES:
            found = re.fullmatch(pattern, path)
            if found and known == method.replace("HEAD", "GET"):
                return answer(self.hub, content, **found.groupdict())
        raise Refused(404, "EntryNotFound", f"nothing is at {path}")

    def do_GET(self) -> None:
        self._answer("GET")

    def do_HEAD(self) -> None:
        self._answer("HEAD")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def log_message(self, *arguments) -> None:
        pass


@contextmanager
def running_hub() -> Iterator[Hub]:
    """Serve a new Hub while the block runs, at `url`."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
