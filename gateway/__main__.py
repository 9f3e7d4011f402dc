"""`python -m gateway`: the `interlock` command, or a child process when a supervisor's orders are in the environment."""

from __future__ import annotations

import sys


def main() -> int:
    """Runs a child or a command. Returns the exit code."""
    from gateway.process.orders import take_orders

    orders = take_orders()
    if orders is not None:
        from gateway.app import run_child

        return run_child(orders)
    from gateway.cli import main as command_line

    return command_line()


if __name__ == "__main__":
    sys.exit(main())
