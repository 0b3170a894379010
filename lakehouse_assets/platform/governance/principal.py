"""Who reads: the user of this process, and whether they may see personal data."""

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

OWNER = "owner"
"""The value of LAKEHOUSE_SHOW_PERSONAL that lets the owner of a root see personal data."""


@dataclass(frozen=True)
class Principal:
    """Who reads.

    Attributes:
        name: Of the user.
        sees_personal: Whether personal data is shown to them.
        why: Why it is masked although it was asked for; empty otherwise.
    """

    name: str
    sees_personal: bool = False
    why: str = ""


def this_user(root: str, show_personal: str) -> Principal:
    """The user of this process. They see personal data if the setting says `owner` and the folder of the root is theirs.

    The user is asked of the system and not of the environment, which anybody can set.

    Args:
        root: Folder or bucket.
        show_personal: The value of LAKEHOUSE_SHOW_PERSONAL.
    """
    user = os.getuid()
    try:
        name = pwd.getpwuid(user).pw_name
    except KeyError:  # a container without this user
        name = f"uid {user}"
    if show_personal != OWNER:
        return Principal(name)
    if "://" in root:
        return Principal(name, why="the root is a bucket, which has no owner on this machine")
    folder = Path(root)
    if folder.exists() and folder.stat().st_uid != user:
        return Principal(name, why=f"{root} belongs to another user")
    return Principal(name, sees_personal=True)
