"""A folder for what reading one file has to put on disk: unpacked, converted or split content.

What is written there, and when it is not needed any more, is decided by the readers and by whoever uses the frame.
"""

import shutil
import tempfile
import weakref
from pathlib import Path


class Scratch:
    """A temporary folder that is made when it is first needed and removed with this object at the latest.

    Args:
        parent: Where the folder is made; None is the system's folder for temporary files (`TMPDIR`).
    """

    def __init__(self, parent: Path | None = None) -> None:
        self._parent = parent
        self._folder: Path | None = None
        self._finalizer: weakref.finalize[..., Scratch] | None = None
        self.is_closed = False

    def file(self, step: str, name: str) -> Path:
        """Gives the path of a file that does not exist yet.

        Args:
            step: What the file is for, once a scratch folder; a folder below it.
            name: The name of the file: that of the landed file, so that messages name it.
        """
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="lakehouse-reading-", dir=self._parent))
            self._finalizer = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        folder = self._folder / step
        folder.mkdir()
        return folder / name

    def close(self) -> None:
        """Remove the folder and what is in it."""
        self.is_closed = True
        if self._finalizer is not None:
            self._finalizer()
