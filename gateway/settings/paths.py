"""Paths of everything that a gateway keeps in its home folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Home:
    """The paths under ``folder``."""

    folder: Path

    @property
    def lock(self) -> Path:
        """The lock that all processes of the running gateway hold."""
        return self.folder / "gateway.lock"

    @property
    def run(self) -> Path:
        """Folder of what concerns only the running gateway: socket, last state, note."""
        return self.folder / "run"

    @property
    def control_socket(self) -> Path:
        """The Unix socket at which workers connect to control."""
        return self.run / "control.sock"

    @property
    def desired_state(self) -> Path:
        """The last desired state, for workers that start while control is away."""
        return self.run / "desired.json"

    @property
    def note(self) -> Path:
        """Addresses and process ids of the running gateway, as JSON."""
        return self.run / "gateway.json"

    @property
    def predictions(self) -> Path:
        """The prediction log."""
        return self.folder / "predictions.db"

    @property
    def layouts(self) -> Path:
        """Serving layouts of large models; they can be made again."""
        return self.folder / "layouts"

    @property
    def crashes(self) -> Path:
        """Versions that have ended workers, as JSON."""
        return self.folder / "crashes.json"

    @property
    def uploads(self) -> Path:
        """Uploads until they are registered; emptied at every start of control."""
        return self.folder / "tmp"
