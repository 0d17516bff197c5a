"""`archer view`: runs in a browser."""

from __future__ import annotations

from archer.commands import View


def view(command: View) -> None:
    """Write runs to one HTML file, or serve them until stopped."""
    from archer.comparison.curves import find_runs
    from archer.view.data import MOST

    if not 0 <= command.games <= MOST:
        raise ValueError(f"--games must be from 0 to {MOST}, got {command.games}")
    if command.export is not None and not command.export.parent.is_dir():
        raise ValueError(f"--export: there is no folder {command.export.parent}; make it first")
    runs = find_runs(command.runs)
    if command.export is not None:
        from archer.progress import Progress
        from archer.view.export import export

        with Progress() as progress:
            export(runs, command.export, command.games, progress)
        print(command.export)
        return
    from archer.view.server import serve

    serve(runs, command.port, lambda address: print(f"{address}  (Ctrl+C ends it)", flush=True))
