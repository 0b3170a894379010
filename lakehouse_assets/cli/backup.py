"""`lakehouse backup` and `restore-backup`: a root copied to another place at one moment, and back."""

import shlex
from typing import Any

import click

from lakehouse_assets.cli.shared import JSON, client, command, progress_console
from lakehouse_assets.cli.terminal import print_json, say
from lakehouse_assets.platform.wording import counted, size


@command(interrupted="The backups that were there are whole; the next one takes over what was copied.")
@click.argument("to")
@click.option("--keep", type=click.IntRange(1), help="Keep so many backups of this root there, and delete older ones.")
@click.option("--without-mlflow", is_flag=True, help="Leave MLflow's database out, because a server keeps it.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
@JSON
def backup(to: str, *, keep: int | None, without_mlflow: bool, dry_run: bool, as_json: bool) -> None:
    """Back all of this lakehouse up to TO, a folder or a bucket (s3://bucket/prefix), at one moment; runs and services go on.

    Tables with their history, landing zone and log, models, MLflow's and Dagster's databases. Files that an earlier backup has are not
    copied again. `lakehouse restore-backup` brings a backup back.

    \b
    Examples:
      lakehouse backup /mnt/backups/shop
      lakehouse backup s3://bucket/backups/shop --keep 14
    """
    target = progress_console(as_json=as_json)
    with target.status("Backup") as status:
        made = client().backup(
            to, keep=keep, without_mlflow=without_mlflow, dry_run=dry_run, on_progress=lambda where: status.update(f"Backup: {where}")
        )
    for left in made["left_out"]:
        say(("warning", "yellow"), f" not in the backup: {left}", to=target)
    if as_json:
        print_json(made)
        return
    new = f"{counted(made['new_files'], 'new file')} ({size(made['new_bytes'])})"
    whole = f"{counted(len(made['tables']), 'table')}, {counted(made['files'], 'file')} ({size(made['bytes'])})"
    say(
        f"{'Would be' if dry_run else 'Backup'} {'' if dry_run else made['backup'] + ' of '}{made['at'][:19]} UTC: {whole}, {new}.".replace(
            "  ", " "
        )
    )
    if made["deleted"]:
        say(f"{'Would delete' if dry_run else 'Deleted'}: {', '.join(made['deleted'])}.")
    if not dry_run:
        say("Bring it back: ", (f"lakehouse restore-backup {shlex.quote(to)} --at {made['backup']} --root NEW", "bold"))


@command("restore-backup", interrupted="The root is unfinished: the same command goes on with it.")
@click.argument("source", metavar="FROM")
@click.option("--at", metavar="ID", help="This backup; the first characters are enough.  [default: the newest]")
@click.option("--dry-run", is_flag=True, help="Show what would be restored, and do nothing.")
@JSON
def restore_backup(source: str, *, at: str | None, dry_run: bool, as_json: bool) -> None:
    """Restore a backup from FROM, a folder or a bucket, into this root, which has to be empty; --root names it.

    Each file is compared with its digest. Versions, history and ids of tables are those of the backup, models are found in the new place.
    If it is interrupted, the same command ends it; until then the root cannot be used.

    \b
    Examples:
      lakehouse restore-backup /mnt/backups/shop --root restored
      lakehouse restore-backup s3://bucket/backups/shop --root s3://bucket/shop2 --dry-run
    """
    target = progress_console(as_json=as_json)
    with target.status("Restore") as status:
        plan = client().restore_backup(source, at=at, on_progress=lambda where: status.update(f"Restore: {where}"))
        done: dict[str, Any] = plan.as_values() if dry_run else plan.carry_out()
    if as_json:
        print_json(done)
        return
    whole = f"{counted(len(done['tables']), 'table')}, {counted(done['files'], 'file')} ({size(done['bytes'])})"
    say(f"Backup {done['backup']} of {done['at'][:19]} UTC, of {done['root']}: {whole}.")
    if dry_run:
        say(f"{counted(len(done['backups']), 'backup is', 'backups are')} there: {', '.join(done['backups'])}")
        return
    say(f"Restored: {counted(done['written_files'], 'file')} ({size(done['written_bytes'])}) written and compared with their digests.")
    if done["without_mlflow"]:
        say(("note", "blue"), " MLflow's database is not in the backup: restore it with the tool of its server.")
    say("Next: ", ("lakehouse doctor", "bold"), ", then ", ("lakehouse run", "bold"), ".")
