"""`interlock serve`: runs the gateway until a signal stops it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.options import byte_count
from gateway.cli.output import print_json, say
from gateway.cli.problems import CommandError
from gateway.settings.cpu_share import cpu_share
from gateway.settings.paths import Home
from gateway.settings.values import SECTIONS, CannotStart, Settings

OPTIONS = frozenset(item.name for section in (Settings, *SECTIONS.values()) for item in fields(section))


def _option(help_text: str, metavar: str | None = None, *, readable: bool = True) -> Any:
    """
    Makes an option. `Settings` has its default, so typer shows none. ``readable``: False leaves a path to the gateway, which
    says what is missing.
    """
    text = help_text.replace("[", r"\[")  # no markup of rich
    return typer.Option(metavar=metavar, show_default=False, readable=readable, help=text)


HomeOption = Annotated[
    Path | None, _option("Folder of the registry.  [default: ~/.local/share/interlock]", "DIR", readable=False)
]


def serve(
    context: typer.Context,
    home: Annotated[
        Path | None, _option("Folder of the registry.  [default: in ~/.local/share]", "DIR", readable=False)
    ] = None,
    data_address: Annotated[str | None, _option("Address of the data port.  [default: 0.0.0.0:8001]", "HOST:PORT")] = None,
    admin_address: Annotated[str | None, _option("Address of the admin port.  [default: 127.0.0.1:9001]", "HOST:PORT")] = None,
    http_address: Annotated[str | None, _option("Address of the HTTP port.  [default: 0.0.0.0:8002]", "HOST:PORT")] = None,
    workers: Annotated[
        int | None,
        _option("Worker processes; 0 runs all in one process.  [default: one per core of the CPU quota]", "N"),
    ] = None,
    lane: Annotated[str | None, _option("Request path: fast or standard.  [default: fast]")] = None,
    model_control: Annotated[
        bool | None,
        typer.Option("--model-control", help="Allow callers to load and unload models.", show_default=False),
    ] = None,
    shared_memory: Annotated[
        bool | None,
        typer.Option(
            "--shared-memory", help="Allow callers to pass tensors in shared memory of this user.", show_default=False
        ),
    ] = None,
    reflection: Annotated[
        bool | None, typer.Option("--reflection", help="Serve gRPC reflection on the data port.", show_default=False)
    ] = None,
    drain_delay_s: Annotated[
        float | None,
        _option("Seconds from NOT_SERVING until calls are refused.  [default: 0.5]"),
    ] = None,
    grace_s: Annotated[float | None, _option("Seconds that calls in flight have to end at a stop.  [default: 30]")] = None,
    log_level: Annotated[str | None, _option("Log level: debug, info, warning or error.  [default: info]")] = None,
    ready_models: Annotated[str | None, _option("For /health/ready: any, all, none or names.  [default: any]", "A,B")] = None,
    trace_ratio: Annotated[float | None, _option("Share of requests that are traced, 0 to 1.  [default: 0.01]")] = None,
    prediction_sample: Annotated[float | None, _option("Share of predictions that are recorded, 0 to 1.  [default: 1]")] = None,
    max_message_bytes: Annotated[int | None, _option("Largest request or response, in bytes.  [default: 64 MiB]")] = None,
    load_timeout_s: Annotated[float | None, _option("Seconds that preparing a version may take.  [default: 120]")] = None,
    on_demand: Annotated[
        int | None,
        _option("Load versions when a caller names them, at most N at a time; 0 loads none.  [default: 0]", "N"),
    ] = None,
    memory_budget: Annotated[
        int | None,
        typer.Option(
            metavar="SIZE",
            parser=byte_count,
            show_default=False,
            help="Memory that all workers may use together, e.g. 4GiB.  \\[default: nine tenths of the machine's]",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object when the gateway serves.")] = False,
) -> int:
    """
    Run the gateway until SIGTERM or Ctrl-C. Both let calls in flight end. Every option is also a variable
    INTERLOCK_<OPTION>. Variables alone set prediction_window_s, prediction_bytes, max_connection_age_s,
    max_concurrent_streams and unit_header.
    """
    options = {name: value for name, value in context.params.items() if name in OPTIONS}
    settings = _settings(**options, memory_budget_bytes=memory_budget)
    return _run(settings, as_json=as_json)


def _run(settings: Settings, *, as_json: bool) -> int:
    from gateway.process.launch import run_gateway

    def in_process(ready: Settings, home: Home, on_ready: Callable[[], None], report: Callable[[str], None]) -> int:
        from gateway.app import run_in_process  # imports gRPC, whose environment has to be set before

        return run_in_process(ready, home, on_ready=on_ready, report=report)

    def announce(ready: Settings, home: Path, pid: int) -> None:
        try:
            _announce(ready, home, pid, as_json=as_json)
        except OSError:
            pass  # nobody reads standard output any more: no reason to stop serving

    try:
        return run_gateway(settings, announce=announce, report=say, run_in_process=in_process)
    except CannotStart as error:
        raise CommandError(str(error)) from error


def _settings(**options: Any) -> Settings:
    from gateway.settings.environment import read_settings  # imports pydantic

    try:
        return read_settings(**options)
    except CannotStart as error:
        raise CommandError(str(error)) from error


def _announce(settings: Settings, home: Path, pid: int, *, as_json: bool) -> None:
    share = cpu_share()
    reason = share.reason if settings.workers == share.usable else ""
    if as_json:
        print_json(
            {
                "status": "ready",
                **{name: str(address) for name, address in settings.addresses.items()},
                "home": str(home),
                "workers": settings.workers,
                **({"workers_reason": reason} if reason else {}),
                "pid": pid,
            }
        )
        return
    count = {0: "all in one process", 1: "1 worker"}.get(settings.workers, f"{settings.workers} workers")
    count += f", as {reason}" if reason else ""
    typer.echo(
        f"ready: predictions on {settings.data_port.data_address}, admin on {settings.admin_address}, "
        f"metrics and health on http://{settings.http_address} ({count}, home {home}, pid {pid})"
    )
