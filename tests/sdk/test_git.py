"""What git says of the working directory: the file in the root, and links to lines."""

import subprocess
from pathlib import Path

import pytest

import millstream
from millstream.git import GitStatus, config_from_root
from millstream_events.errors import ConfigError


def git(folder: Path, *arguments: str) -> str:
    ended = subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b.example", *arguments],
        cwd=folder, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return ended.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit; the working directory is a folder inside it."""
    root = tmp_path / "repository"
    (root / "deep").mkdir(parents=True)
    (root / "deep" / "flow.py").write_text("x = 1\n")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "first")
    monkeypatch.chdir(root / "deep")
    monkeypatch.setenv("HOME", str(tmp_path))
    return root


def test_the_configuration_in_the_root_of_the_repository_is_found_from_any_folder(repository: Path):
    assert config_from_root() is None
    file = repository / ".flyte" / "config.yaml"
    file.parent.mkdir()
    file.write_text("task:\n  project: billing\n")
    found = config_from_root()
    assert found is not None
    assert (found.task.project, found.source) == ("billing", file)
    (repository / "other.yaml").write_text("task:\n  domain: production\n")
    other = config_from_root("other.yaml")
    assert other is not None
    assert other.task.domain == "production"


def test_a_file_in_the_root_that_cannot_be_used_is_an_error(repository: Path):
    (repository / "broken.yaml").write_text("task: [")
    with pytest.raises(ConfigError, match=r"broken\.yaml"):
        config_from_root("broken.yaml")


def test_without_a_repository_or_without_git_there_is_no_file_and_no_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    for search in (None, str(tmp_path)):
        if search is not None:
            monkeypatch.setenv("PATH", search)
        assert config_from_root() is None
        status = GitStatus.from_current_repo()
        assert not status.is_valid
        assert status.build_url(tmp_path / "flow.py", 3) == ""


@pytest.mark.parametrize(
    ("remote", "link"),
    [
        ("git@github.com:acme/flows.git", "https://github.com/acme/flows/blob/{}/deep/flow.py"),
        ("https://gitlab.com/a/b.git", "https://gitlab.com/a/b/-/blob/{}/deep/flow.py"),
        ("https://git.example/a/b", ""),
    ],
)
def test_a_link_names_the_commit_and_the_line_while_nothing_has_changed(
    repository: Path, remote: str, link: str
):
    assert not millstream.git.GitStatus.from_current_repo().is_valid  # It has no remote one yet.
    git(repository, "remote", "add", "zulu", remote)
    commit = git(repository, "rev-parse", "HEAD")
    whole = link.format(commit)
    clean = GitStatus.from_current_repo()
    assert (clean.is_valid, clean.is_tree_clean, clean.commit_sha) == (True, True, commit)
    assert clean.build_url("flow.py", 3) == (f"{whole}#L3" if whole else "")
    assert clean.build_url(repository.parent / "elsewhere.py", 3) == ""
    Path("flow.py").write_text("x = 2\n")
    changed = GitStatus.from_current_repo()
    assert not changed.is_tree_clean
    assert changed.build_url("flow.py", 3) == whole
    git(repository, "remote", "add", "origin", "https://github.com/acme/main.git")
    assert GitStatus.from_current_repo().remote_url == "https://github.com/acme/main"
