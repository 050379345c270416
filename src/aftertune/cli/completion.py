"""What a shell offers for a name: known tasks, judges and presets. Loads no model library."""


def task_names(incomplete: str) -> list[str]:
    """The known tasks that begin so."""
    from aftertune.tasks import known_tasks

    return [name for name in known_tasks() if name.startswith(incomplete)]


def judge_names(incomplete: str) -> list[str]:
    """The known judges that begin so."""
    from aftertune.judges import known_judges

    return [name for name in known_judges() if name.startswith(incomplete)]


def preset_names(incomplete: str) -> list[str]:
    """The packaged studies that begin so."""
    from aftertune.commands.preset import list_presets

    return [preset["name"] for preset in list_presets() if preset["name"].startswith(incomplete)]


def schema_names(incomplete: str) -> list[str]:
    """What there is a schema of."""
    return [name for name in ("study", "analysis", "status") if name.startswith(incomplete)]
