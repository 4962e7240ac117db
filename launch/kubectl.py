"""Kubernetes' own client, which knows the cluster and who asks."""

import json
import subprocess
import time
from datetime import datetime
from typing import Any

from trawl.errors import RequestError, WorkError

_TRIALS = 3
_AGAIN_SECONDS = 1.0
_AWAY = ("connection refused", "unable to connect", "i/o timeout", "handshake timeout", "eof")


def require() -> None:
    """Raise RequestError where kubectl is not there."""
    try:
        subprocess.run(["kubectl", "version", "--client"], capture_output=True, check=False)
    except FileNotFoundError as error:
        raise RequestError(
            "kubectl is not on this machine; install it, or pipe what --dry-run prints into "
            "`kubectl apply --server-side -f -` where it is"
        ) from error


def ask(
    namespace: str, *words: str, given: str | None = None, refused: type[Exception] = WorkError
) -> str:
    """Run kubectl in the namespace and return what it prints; `refused` with its last line.

    A cluster that does not answer is asked again for a while, for its servers are replaced at
    times; then WorkError.
    """
    command = ["kubectl", f"--namespace={namespace}", *words]
    for trial in range(1, _TRIALS + 1):
        try:
            done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
        except FileNotFoundError as error:
            raise RequestError("kubectl is not on this machine; install it") from error
        if done.returncode == 0:
            return done.stdout
        said = (done.stderr.strip() or "no word").splitlines()[-1]
        if not any(sign in said.lower() for sign in _AWAY):
            raise refused(f"kubectl {words[0]}: {said}")
        if trial < _TRIALS:
            time.sleep(_AGAIN_SECONDS)
    raise WorkError(f"kubectl {words[0]}: {said}")


def apply(namespace: str, objects: str, *, trial: bool = False) -> None:
    """Make the objects what the YAML says, or with `trial` only ask whether they may be.

    RequestError if the cluster refuses one.
    """
    words = ("--server-side", "--force-conflicts", "--field-manager=trawl", "-f", "-")
    more = ("--dry-run=server",) if trial else ()
    ask(namespace, "apply", *words, *more, given=objects, refused=RequestError)


def get(namespace: str, kind: str, name: str) -> dict[str, Any]:
    """Return an object, {} if it is not there."""
    said = ask(namespace, "get", kind, name, "--ignore-not-found", "--output=json")
    found: dict[str, Any] = json.loads(said or "{}")
    return found


def pods(namespace: str, labels: dict[str, str]) -> list[dict[str, Any]]:
    """Return the pods that have the labels, the oldest first."""
    chosen = ",".join(f"{name}={value}" for name, value in labels.items())
    said = ask(namespace, "get", "pods", f"--selector={chosen}", "--output=json")
    found = json.loads(said or "{}").get("items", [])
    return sorted(found, key=lambda pod: str(pod["metadata"].get("creationTimestamp")))


def logs(namespace: str, pod: str, container: str) -> str:
    """Return what a pod printed, each line with its time as in our logs."""
    name = f"--container={container}"
    said = ask(namespace, "logs", pod, name, "--timestamps=true")
    return "".join(_stamped(line) for line in said.splitlines())


def _stamped(line: str) -> str:
    """Return a line whose time is in the form and the time zone of our logs."""
    head, _, text = line.partition(" ")
    try:
        moment = datetime.fromisoformat(head[:26].rstrip("Z") + "+00:00").astimezone()
    except ValueError:
        return f"{line}\n"
    return f"{moment:%Y-%m-%d %H:%M:%S},{moment.microsecond // 1000:03} {text}\n"
