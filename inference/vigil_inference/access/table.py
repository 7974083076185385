"""The table of roles and permissions for the documentation, made of the one that is used."""

from vigil_inference.access.roles import ALLOWED, WHAT_FOR, Permission, Role


def roles_table() -> str:
    """Return who may do what, in Markdown."""
    head = ["permission", "what it allows", *(role.value for role in Role)]
    rows = [
        [
            f"`{permission.value}`",
            WHAT_FOR[permission],
            *("yes" if permission in ALLOWED[role] else "" for role in Role),
        ]
        for permission in Permission
    ]
    lines = [head, ["---"] * 2 + [":-:"] * len(Role), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
