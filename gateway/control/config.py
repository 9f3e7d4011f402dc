"""What can be set about the control process, as one frozen value checked at construction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

GIB = 1024**3


@dataclass(frozen=True, slots=True)
class ControlConfig:
    """
    Settings of control.

    home: folder of registry, artifacts, and of run/ with the socket and the last desired state.
    workers: how many workers should be attached (an in-process one counts as 1), so that an absent one is known to be away.
    attach_timeout_s: seconds that a change waits for the first worker while none is attached.
    prepare_timeout_s: seconds within which every worker has to have loaded and warmed up a version.
    acknowledge_timeout_s: seconds to wait for the workers to put a committed route in force; who is late is reported.
    replace_timeout_s: seconds within which a rolling restart has to come a step further.
    report_timeout_s: seconds to wait for the workers' fresh counts.
    tick_interval_s: seconds between looks at expired rollback windows and at the registry.
    on_demand: versions held at most because callers named them; 0 = callers get what is deployed, nothing else.
    upload_bytes: largest artifact that can be registered.
    memory_budget_bytes: memory that all workers may take together; 0 = what the machine has, without a reserve.
    history: finished operations that are kept, the oldest are forgotten.
    is_shared_memory: callers may register shared memory regions.
    is_restarted: control was started again while the gateway runs; what it remembered is read back.
    data_address, http_address, version: shown by GetStatus, nothing else.
    """

    home: Path
    workers: int = 1
    attach_timeout_s: float = 3.0
    prepare_timeout_s: float = 120.0
    acknowledge_timeout_s: float = 10.0
    replace_timeout_s: float = 210.0
    report_timeout_s: float = 2.0
    tick_interval_s: float = 1.0
    on_demand: int = 0
    upload_bytes: int = 8 * GIB
    memory_budget_bytes: int = 0
    history: int = 1000
    is_shared_memory: bool = False
    is_restarted: bool = False
    data_address: str = ""
    http_address: str = ""
    version: str = ""

    def __post_init__(self) -> None:
        for name in ("prepare_timeout_s", "acknowledge_timeout_s", "report_timeout_s", "tick_interval_s", "upload_bytes"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: expected more than 0, got {getattr(self, name)}")
        if self.workers < 1 or self.history < 1:
            raise ValueError(f"workers and history: expected 1 or more, got {self.workers} and {self.history}")

    @property
    def socket(self) -> Path:
        """Where workers connect."""
        return self.home / "run" / "control.sock"

    @property
    def desired_file(self) -> Path:
        """The last desired state, for workers that start while control is away."""
        return self.home / "run" / "desired.json"

    @property
    def layouts(self) -> Path:
        """Serving layouts of large models; they can be made again."""
        return self.home / "layouts"

    @property
    def uploads(self) -> Path:
        """Where uploads lie until they are registered; emptied at every start."""
        return self.home / "tmp"
