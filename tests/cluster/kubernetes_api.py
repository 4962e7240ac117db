"""As much of a Kubernetes API server as the real kubectl needs to apply, watch and delete a job.

It keeps objects and runs nothing: a test says what becomes of the pods. Each object that comes in
is checked against the published schema, as a real server does.
"""

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

# Of each group: its version, and of each plural its kind.
_GROUPS = {
    "": ("v1", {"pods": "Pod", "services": "Service", "configmaps": "ConfigMap"}),
    "batch": ("v1", {"jobs": "Job"}),
    "jobset.x-k8s.io": ("v1alpha2", {"jobsets": "JobSet"}),
    "ray.io": ("v1", {"rayjobs": "RayJob"}),
}
_VERBS = ["create", "delete", "get", "list", "patch", "watch"]


def missing() -> list[str]:
    """Return what a test lacks here; older clients ask for a form of the API that is not ours."""
    if shutil.which("kubectl") is None:
        return ["kubectl"]
    words = ["kubectl", "version", "--client", "--output=json"]
    version = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
    return [] if int(version["clientVersion"]["minor"].rstrip("+")) >= 27 else ["kubectl 1.27"]


@dataclass
class Server:
    """A running server: its objects by plural and name, and the pods' logs by name."""

    address: str
    objects: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    refuse: Callable[[dict[str, Any]], str | None] = lambda content: None
    deleted: list[str] = field(default_factory=list)
    stamp: int = 0

    def put(self, plural: str, content: dict[str, Any]) -> dict[str, Any]:
        """Keep an object, as the controllers of a cluster would."""
        self.stamp += 1
        known = self.objects.get((plural, content["metadata"]["name"]), {})
        content["metadata"] |= {
            "resourceVersion": str(self.stamp),
            "uid": known.get("metadata", {}).get("uid", f"uid-{self.stamp}"),
            "creationTimestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        self.objects[plural, content["metadata"]["name"]] = content
        return content

    def pod(self, job: str, node: int, state: dict[str, Any], phase: str = "Running") -> None:
        """Say how the pod of a machine of `job` is."""
        labels = {"app.kubernetes.io/instance": job}
        index = {"batch.kubernetes.io/job-completion-index": str(node)}
        metadata = {"name": f"{job}-{node}", "labels": labels, "annotations": index}
        status = {"phase": phase, "containerStatuses": [{"name": "trawl", "state": state}]}
        container = {"name": "trawl", "image": "none"}
        specification = {"nodeName": f"host{node}", "containers": [container]}
        content = {"metadata": metadata, "spec": specification, "status": status}
        self.put("pods", {"apiVersion": "v1", "kind": "Pod", **content})


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: Server

    def _send(self, content: Any, status: int = 200, kind: str = "application/json") -> None:
        body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, status: int, reason: str, text: str) -> None:
        content = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": text}
        self._send({**content, "reason": reason, "code": status}, status)

    def _place(self) -> tuple[str, str, list[str]]:
        """Return plural, name and what comes behind of the request's path."""
        parts = urlsplit(self.path).path.strip("/").split("/")
        parts = parts[2:] if parts[0] == "api" else parts[3:]
        if parts and parts[0] == "namespaces":
            parts = parts[2:]
        return (parts + ["", ""])[0], (parts + ["", ""])[1], parts[2:]

    def do_GET(self) -> None:
        path = urlsplit(self.path)
        if path.path in _DISCOVERY:
            self._send(_DISCOVERY[path.path])
            return
        plural, name, behind = self._place()
        if behind == ["log"]:
            self._send(self.state.logs.get(name, ""), kind="text/plain")
        elif name:
            found = self.state.objects.get((plural, name))
            if found is None:
                self._refuse(404, "NotFound", f'{plural} "{name}" not found')
            else:
                self._send(found)
        elif plural and path.path not in _DISCOVERY and plural in _KINDS:
            self._list(plural, parse_qs(path.query))
        else:
            self._refuse(404, "NotFound", "the server could not find the requested resource")

    def _list(self, plural: str, query: dict[str, list[str]]) -> None:
        labels = [pair for text in query.get("labelSelector", []) for pair in text.split(",")]
        wanted = dict(pair.split("=", 1) for pair in labels)
        names = [text.partition("=")[2] for text in query.get("fieldSelector", [])]
        items = [
            content
            for (kind, name), content in self.state.objects.items()
            if kind == plural
            and (not names or name in names)
            and wanted.items() <= content["metadata"].get("labels", {}).items()
        ]
        version = {"resourceVersion": str(self.state.stamp)}
        kind = f"{_KINDS[plural]}List"
        self._send({"kind": kind, "apiVersion": "v1", "metadata": version, "items": items})

    def do_PATCH(self) -> None:
        plural, _, _ = self._place()
        content = yaml.safe_load(self.rfile.read(int(self.headers["Content-Length"])))
        if fault := self.state.refuse(content):
            self._refuse(422, "Invalid", fault)
            return
        if "dryRun" in parse_qs(urlsplit(self.path).query):
            self._send(content)
            return
        self._send(self.state.put(plural, content), 201)

    def do_DELETE(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        plural, name, _ = self._place()
        found = self.state.objects.pop((plural, name), None)
        if found is None:
            self._refuse(404, "NotFound", f'{plural} "{name}" not found')
            return
        self.state.deleted.append(f"{plural}/{name}")
        for key in [key for key in self.state.objects if key[0] == "pods"]:
            del self.state.objects[key]  # as the collector of garbage does
        self._send(found)

    def log_message(self, *arguments: Any) -> None:
        pass


def _root(group: str) -> str:
    """Return the path that a group's kinds are below."""
    version, _ = _GROUPS[group]
    return f"apis/{group}/{version}" if group else f"api/{version}"


def _resources(group: str) -> dict[str, Any]:
    version, kinds = _GROUPS[group]
    resources = [
        {"name": plural, "singularName": kind.lower(), "namespaced": True, "kind": kind}
        | {"verbs": _VERBS}
        for plural, kind in kinds.items()
    ]
    name = f"{group}/{version}" if group else version
    listed = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name}
    return {**listed, "resources": resources}


def _groups() -> dict[str, Any]:
    groups = []
    for group, (version, _) in _GROUPS.items():
        if group:
            named = {"groupVersion": f"{group}/{version}", "version": version}
            groups.append({"name": group, "versions": [named], "preferredVersion": named})
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def _open_api() -> dict[str, Any]:
    """Say of each kind that a patch may ask for the server's own check of fields."""
    paths = {}
    for group, (version, kinds) in _GROUPS.items():
        for plural, kind in kinds.items():
            named = {"group": group, "version": version, "kind": kind}
            parameters = [{"name": "fieldValidation", "in": "query"}]
            patch = {"parameters": parameters, "x-kubernetes-group-version-kind": named}
            paths[f"/{_root(group)}/namespaces/{{namespace}}/{plural}/{{name}}"] = {"patch": patch}
    return {"openapi": "3.0.0", "info": {"title": "t", "version": "v1"}, "paths": paths}


_KINDS = {plural: kind for _, kinds in _GROUPS.values() for plural, kind in kinds.items()}
_DISCOVERY: dict[str, Any] = {
    "/version": {"major": "1", "minor": "34", "gitVersion": "v1.34.0"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": _groups(),
    **{f"/{_root(group)}": _resources(group) for group in _GROUPS},
    "/openapi/v3": {
        "paths": {
            _root(group): {"serverRelativeURL": f"/openapi/v3/{_root(group)}"} for group in _GROUPS
        }
    },
    **{f"/openapi/v3/{_root(group)}": _open_api() for group in _GROUPS},
}


@contextmanager
def server(folder: Path) -> Iterator[Server]:
    """Run a server; the file `folder`/config tells kubectl of it."""
    state = Server("")
    answer = type("Answer", (_Answer,), {"state": state})
    with ThreadingHTTPServer(("127.0.0.1", 0), answer) as listening:
        state.address = f"http://127.0.0.1:{listening.server_port}"
        named = {"name": "test"}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [named | {"cluster": {"server": state.address}}],
            "users": [named | {"user": {"token": "none"}}],
            "contexts": [named | {"context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        }
        (folder / "config").write_text(yaml.safe_dump(config))
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        yield state
        listening.shutdown()
        thread.join()
