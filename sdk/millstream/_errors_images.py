"""Errors of images and of what is mounted into containers."""

from millstream._errors_roots import CodedUserError, NamedUserError, RuntimeUserError


class ImageBuildError(NamedUserError):
    """An image could not be built."""


class InvalidPackageError(RuntimeUserError):
    """A system package that an image asks for does not exist."""

    def __init__(self, package_name: str, original_error: str) -> None:
        super().__init__(
            "InvalidPackageError",
            f"Invalid system package detected: {package_name!r}; it is in no repository that "
            f"was asked. Error: {original_error}",
        )
        self.package_name = package_name
        self.original_error = original_error


class InvalidImageNameError(CodedUserError):
    """The name of an image cannot be read."""


class ImagePullBackOffError(CodedUserError):
    """An image cannot be brought."""


class PrimaryContainerNotFoundError(CodedUserError):
    """The container that runs the task is not there."""


class ParameterMaterializationError(NamedUserError):
    """The value of an app's parameter could not be had."""
