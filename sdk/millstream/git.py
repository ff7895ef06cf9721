"""What git says of the code: where the configuration of its repository is, and links to lines.

Nothing here fails for want of git or of a repository: then there is no file, and no link.
"""

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from millstream import config
from millstream._logger import system_logger
from millstream.config import Config

__all__ = ["GitStatus", "config_from_root"]

#: A command of git that takes longer is given up.
_GIT_S: Final = 20
#: Host -> what stands between a repository and a commit in its links to files.
_FILES_OF_HOST: Final[Mapping[str, str]] = {"github.com": "blob", "gitlab.com": "-/blob"}


@dataclass(frozen=True)
class GitStatus:
    """The repository of the working directory, as git describes it.

    Attributes:
        is_valid: There is a repository with a commit and a remote one, so links can be made.
        is_tree_clean: Nothing differs from the commit.
        remote_url: The remote repository to which is pushed, as an https URL.
        repo_dir: Root of the repository.
        commit_sha: The commit that is checked out.
    """

    is_valid: bool = False
    is_tree_clean: bool = False
    remote_url: str = ""
    repo_dir: Path = Path()
    commit_sha: str = ""

    @classmethod
    def from_current_repo(cls) -> "GitStatus":
        """Ask git about the working directory; without a repository nothing is valid."""
        root = _git("rev-parse", "--show-toplevel")
        commit = _git("rev-parse", "HEAD")
        changes = _git("status", "--porcelain")
        url = _remote_url()
        return cls(
            is_valid=bool(root and commit and changes is not None and url),
            is_tree_clean=changes == "",
            remote_url=url,
            repo_dir=Path(root or ""),
            commit_sha=commit or "",
        )

    def build_url(self, path: Path | str, line_number: int) -> str:
        """Return the link to a line of a file in the commit, without the line if files changed.

        Empty where there is none: outside of the repository, or for a host whose links are not
        known.
        """
        host, _, _ = self.remote_url.removeprefix("https://").partition("/")
        files = _FILES_OF_HOST.get(host)
        resolved = Path(path).resolve()
        if not self.is_valid or files is None or not resolved.is_relative_to(self.repo_dir):
            system_logger.warning("no link to %s: git status %s", path, self)
            return ""
        inside = resolved.relative_to(self.repo_dir).as_posix()
        line = f"#L{line_number}" if self.is_tree_clean else ""
        return f"{self.remote_url}/{files}/{self.commit_sha}/{inside}{line}"


def config_from_root(path: Path | str = ".flyte/config.yaml") -> Config | None:
    """Return what a file in the root of the git repository configures; None: there is none.

    Args:
        path: The file, relative to the root of the repository that the working directory is in.

    Raises:
        ConfigError: The file cannot be used.
    """
    root = _git("rev-parse", "--show-toplevel")
    if not root or not (Path(root) / path).is_file():
        return None
    return config.auto(Path(root) / path)


def _remote_url() -> str:
    """Return the remote to which is pushed: `origin`, else the first by name; empty: none."""
    names = sorted((_git("remote") or "").split())
    if not names:
        return ""
    name = "origin" if "origin" in names else names[0]
    url = (_git("remote", "get-url", "--push", name) or "").removesuffix(".git")
    if not url.startswith("git@"):
        return url
    host, _, repository = url.removeprefix("git@").partition(":")
    return f"https://{host}/{repository}"


def _git(*arguments: str) -> str | None:
    """Return what git prints in the working directory; None if it fails or is not there."""
    program = shutil.which("git")
    if program is None:
        return None
    try:
        ended = subprocess.run(
            [program, *arguments], capture_output=True, text=True, timeout=_GIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ended.stdout.strip() if ended.returncode == 0 else None
