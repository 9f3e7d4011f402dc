"""Commands about ground truth: feedback sends it, quality shows the quality of the versions."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.gateway_session import connected, data_connected
from gateway.cli.options import DEFAULT_ADMIN, Admin, AsJson, Data, Model, seconds
from gateway.cli.output import print_json, say, stdout
from gateway.cli.problems import CommandError

if TYPE_CHECKING:
    from gateway.client import Feedback, FeedbackResult

_FIELDS = frozenset("prediction_id inference_id label value row source observed_at idempotency_key".split())


def feedback(
    prediction_id: Annotated[str | None, typer.Option(metavar="ID", help="Id that came with the prediction.")] = None,
    inference_id: Annotated[str | None, typer.Option(metavar="ID", help="Request id that the caller had given.")] = None,
    label: Annotated[str | None, typer.Option(metavar="CLASS", help="True outcome: a class.")] = None,
    value: Annotated[float | None, typer.Option(metavar="NUMBER", help="True outcome: a number.")] = None,
    row: Annotated[int, typer.Option(metavar="N", min=0, help="Row in a request of several rows.")] = 0,
    source: Annotated[str, typer.Option(metavar="TEXT", help="Origin of the ground truth.")] = "",
    file: Annotated[
        Path | None, typer.Option(metavar="FILE.jsonl", help="File of many items, one JSON object per line; - reads stdin.")
    ] = None,
    data: Data = None,
    admin: Admin = DEFAULT_ADMIN,
    as_json: AsJson = False,
) -> None:
    """Send ground truth for predictions. Shows what became of each item; exits with 1 when one is invalid."""
    single = [prediction_id, inference_id, label, value]
    if (file is not None) == any(given is not None for given in single):
        raise typer.BadParameter("give --file, or an id (--prediction-id or --inference-id) with --label or --value")
    from gateway.client import Feedback

    with data_connected(data, admin) as client:
        if file is None:
            item = Feedback(
                prediction_id=prediction_id, inference_id=inference_id, label=label, value=value, row=row, source=source
            )
            results = client.send_feedback([item])
        else:
            results = client.stream_feedback(list(_read_items(file)))
    _show_verdicts(results, as_json=as_json)
    if any(result.verdict == "INVALID" for result in results):
        raise typer.Exit(1)


def quality(
    model: Model,
    window: Annotated[str, typer.Option(metavar="DURATION", help="Predictions of the last 90s, 30m, 1h, 7d; 0 for all.")] = "0",
    confusion: Annotated[bool, typer.Option("--confusion", help="Show the confusion matrix too.")] = False,
    admin: Admin = DEFAULT_ADMIN,
    as_json: AsJson = False,
) -> None:
    """Show the live quality of every version, from the ground truth received."""
    window_s = seconds(window)
    with connected(admin) as client:
        report = client.quality(model, window_s)
    if as_json:
        from gateway.protocol.messages import as_json as to_json

        print_json(to_json(report))
        return
    from gateway.cli.quality_tables import quality_view

    stdout().print(quality_view(report, with_confusion=confusion))


def parse_item(text: str, where: str) -> Feedback:
    """Reads an item from a line of JSON. Raises CommandError that names the place and the field."""
    from gateway.client import Feedback

    try:
        fields: Any = json.loads(text)
    except json.JSONDecodeError as error:
        raise CommandError(f"{where}: not JSON ({error.msg} at column {error.colno})") from error
    if not isinstance(fields, dict):
        raise CommandError(f"{where}: expected a JSON object, got {type(fields).__name__}")
    if unknown := sorted(fields.keys() - _FIELDS):
        raise CommandError(f"{where}: unknown field {unknown[0]!r}; expected some of {', '.join(sorted(_FIELDS))}")
    try:
        if isinstance(fields.get("observed_at"), str):
            fields["observed_at"] = datetime.fromisoformat(fields["observed_at"])
        return Feedback(**fields)
    except (TypeError, ValueError) as error:
        raise CommandError(f"{where}: {error}") from error


def _read_items(file: Path) -> Iterator[Feedback]:
    lines = sys.stdin.read() if str(file) == "-" else file.read_text()
    for number, line in enumerate(lines.splitlines(), 1):
        if line.strip():
            yield parse_item(line, f"{file}:{number}")


def _show_verdicts(results: Sequence[FeedbackResult], *, as_json: bool) -> None:
    counts = Counter(str(result.verdict) for result in results)
    if as_json:
        listed = [{"verdict": str(result.verdict), "detail": result.detail} for result in results]
        print_json({"items": len(results), "verdicts": dict(counts), "results": listed})
        return
    stdout().print(", ".join(f"{count} {verdict}" for verdict, count in counts.most_common()) or "nothing sent")
    for result in [each for each in results if each.detail][:10]:
        say(f"{result.verdict}: {result.detail}")
