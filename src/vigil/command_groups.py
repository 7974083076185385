"""Groups of commands that several rooms share: ``vigil models`` is one for serving and training."""

from types import MappingProxyType

import typer

_HELP = MappingProxyType(
    {
        "models": (
            "Bundles that serve here, from shadow to live and back, and open chest-radiograph "
            "models to start from."
        )
    }
)


def share_group(app: typer.Typer, name: str, commands: typer.Typer) -> None:
    """Add a room's commands to a group, which another room may have begun.

    Parameters
    ----------
    app
        The command line.
    name
        Of the group.
    commands
        What this room adds to it; the object itself is not changed.
    """
    group = next(
        (found.typer_instance for found in app.registered_groups if found.name == name), None
    )
    if group is None:
        group = typer.Typer(help=_HELP[name], no_args_is_help=True, rich_markup_mode=None)
        app.add_typer(group, name=name)
    known = {command.callback for command in group.registered_commands}
    group.registered_commands += [
        command for command in commands.registered_commands if command.callback not in known
    ]
