"""The tables for people, made of messages. They fit 100 columns; empty columns are left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.cli.changes import change
from gateway.cli.configuring import settings
from gateway.cli.output import size, when
from gateway.cli.routing import routes
from gateway.protocol.messages import admin

_STATES = {
    "READY": "green", "serving": "green", "FAILED": "red", "away": "red", "DRAINING": "yellow", "draining": "yellow",
    "LOADING": "cyan", "WARMING": "cyan", "starting": "cyan",
}  # fmt: skip
_RIGHT = frozenset(
    """
    share workers requests errors p50 p99 memory private mapped version latest revision size pid worker restarts replaced
    connections deaths
    """.split()
)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str) -> RenderableType:
    """Makes a table without columns that are empty in every row; ``empty`` if there is no row."""
    filled = [list(row) for row in rows]
    if not filled:
        return Text(empty, style="dim")
    kept = [at for at in range(len(columns)) if any(row[at] for row in filled)]
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for at in kept:
        made.add_column(columns[at], justify="right" if columns[at] in _RIGHT else "left", overflow="fold")
    for row in filled:
        made.add_row(*(state(row[at]) if columns[at] == "state" else Text(row[at]) for at in kept))
    return Group(Text(title, style="bold"), made) if title else made


def state(text: str) -> Text:
    """Returns a state in its colour."""
    return Text(text, style=_STATES.get(text.partition(" ")[0], ""))


def models_table(models: Sequence[admin.Model]) -> RenderableType:
    """Registered models."""
    rows = [(model.name, str(model.latest_version), _aliases(model.aliases), when(model.create_time)) for model in models]
    return table(
        "", ("model", "latest", "aliases", "since"), rows, empty="no models: `interlock register MODEL PATH` makes one"
    )


def versions_table(versions: Sequence[admin.Version]) -> RenderableType:
    """Versions of a model."""
    rows = [
        (
            str(version.version),
            ", ".join(version.aliases),
            when(version.create_time),
            size(version.size_bytes),
            f"{version.prediction.output} ({version.prediction.kind})" if version.HasField("prediction") else "",
            _ground(_batching(version)),
            str(version.example_count or ""),
            " ".join(f"{key}={value}" for key, value in sorted(version.tags.items())),
            version.digest[:12],
        )
        for version in versions
    ]
    columns = ("version", "aliases", "registered", "size", "predicts", "batches", "examples", "tags", "digest")
    told = [(version.version, _batching(version)) for version in versions]
    return Group(table("", columns, rows, empty="no versions"), *_reasons(told))


def _batching(version: admin.Version) -> str:
    """Returns on what ground ``auto`` batches a version, or why it does not."""
    return version.row_proof if version.batchable else f"off: {version.batching_reason}"


def _ground(batching: str) -> str:
    return batching.partition(":")[0]


def _reasons(told: Iterable[tuple[int, str]]) -> list[RenderableType]:
    """Returns a line for each version whose requests do not share runs, with the reason."""
    return [Text(f"v{version} batching {batching}", style="dim") for version, batching in told if ":" in batching]


def revisions_table(revisions: Sequence[admin.Deployment]) -> RenderableType:
    """The history of a deployment."""
    rows = [
        (str(each.revision), when(each.create_time), each.action, routes(each), each.author, each.reason) for each in revisions
    ]
    return table("", ("revision", "when", "action", "serves", "author", "reason"), rows, empty="never deployed")


def audit_table(records: Sequence[admin.AuditRecord]) -> RenderableType:
    """Audit records."""
    rows = [(when(r.time), r.author, r.verb, r.model, change(r.before, r.after), r.reason) for r in records]
    return table("", ("when", "author", "verb", "model", "change", "reason"), rows, empty="no records")


def operations_table(operations: Sequence[admin.Operation]) -> RenderableType:
    """Long operations."""
    rows = [
        (_short(each), each.verb, each.model, _outcome(each), when(each.create_time), _last_word(each)) for each in operations
    ]
    return table("", ("operation", "verb", "model", "state", "started", "last"), rows, empty="no operations")


def status_view(status: admin.Status, head: str) -> RenderableType:
    """The head line, the workers, and a table for every model."""
    parts: list[RenderableType] = [Text(head)]
    parts.append(workers_table(status.workers))
    parts += [Text(f"worker {w.worker} died last of {w.last_death}", style="red") for w in status.workers if w.last_death]
    count = len({worker.worker for worker in status.workers})
    parts += [_model_view(model, count) for model in status.models]
    if not status.models:
        parts.append(Text("no models: `interlock register MODEL PATH` makes one", style="dim"))
    return Group(*parts)


def workers_table(workers: Sequence[admin.WorkerStatus]) -> RenderableType:
    """Returns a row per process. During a replacement a worker has two."""
    rows = [
        (
            str(w.worker),
            str(w.pid or ""),
            w.state,
            when(w.start_time) if w.HasField("start_time") else "",
            str(w.restarts or ""),
            str(w.replacements or ""),
            str(w.requests),
            str(w.in_flight),
            str(w.connections) if w.HasField("connections") else "",
            w.lane,
            size(w.rss_bytes) if w.rss_bytes else "",
        )
        for w in workers
    ]
    columns = (
        *("worker", "pid", "state", "since", "restarts", "replaced", "requests", "in flight", "connections", "lane"),
        "memory",
    )
    return table("", columns, rows, empty="no workers")


def _model_view(model: admin.ModelStatus, workers: int) -> RenderableType:
    shown = routes(model.deployment) if model.HasField("deployment") else "nothing is deployed"
    revision = f", revision {model.deployment.revision}" if model.deployment.revision else ""
    rows = [_version_row(version, workers) for version in model.versions]
    columns = (
        "version",
        "roles",
        "state",
        "batching",
        "share",
        "workers",
        "requests",
        "errors",
        "p50",
        "p99",
        "private",
        "mapped",
        "shadow",
        "deaths",
        "isolation",
    )
    told = settings(model.deployment) if model.deployment.default_version else ""
    title = f"{model.model}: {shown}{revision}" + (f"\n{told}" if told else "")
    made = table(title, columns, rows, empty=f"{model.model}: {shown}")
    return Group(made, *_reasons((version.version, version.batching) for version in model.versions))


def _version_row(version: admin.VersionStatus, workers: int) -> tuple[str, ...]:
    served = version.requests > 0
    return (
        str(version.version),
        ", ".join(version.roles),
        f"{version.state} {version.reason}".strip(),
        _ground(version.batching),
        f"{version.percent:g} %" if version.percent else "",
        f"{version.workers_ready}/{workers}",
        str(version.requests),
        str(version.errors or ""),
        f"{version.p50_ms:.2f} ms" if served else "",
        f"{version.p99_ms:.2f} ms" if served else "",
        size(version.private_bytes) if version.private_bytes else "",
        size(version.mapped_bytes) if version.mapped_bytes else "",
        _shadow(version),
        str(version.deaths or ""),
        _isolation(version),
    )


def _isolation(version: admin.VersionStatus) -> str:
    fenced = f"fenced until {when(version.fenced_until)}" if version.HasField("fenced_until") else ""
    return ", ".join(filter(None, (version.isolation, fenced)))


def _shadow(version: admin.VersionStatus) -> str:
    if not version.shadow_compared and not version.shadow_dropped:
        return ""
    agreed = "–"
    if version.shadow_compared:
        agreed = f"{100 * (1 - version.shadow_disagreed / version.shadow_compared):.1f} % of {version.shadow_compared} agree"
    return agreed + (f", {version.shadow_dropped} dropped" if version.shadow_dropped else "")


def _aliases(aliases: object) -> str:
    return ", ".join(f"{name} → {version}" for name, version in sorted(dict(aliases).items()))  # type: ignore[call-overload]


def _short(operation: admin.Operation) -> str:
    return operation.name.removeprefix("operations/")


def _outcome(operation: admin.Operation) -> str:
    if not operation.done:
        return "running"
    return "FAILED" if operation.HasField("error") else "done"


def _last_word(operation: admin.Operation) -> str:
    if operation.HasField("error"):
        return operation.error.message
    if not operation.steps:
        return ""
    step = operation.steps[-1]
    return f"{step.name} {step.detail}".strip()
