"""What only a container can give is kept, named in a warning, and does not stop the task."""

import millstream

image = (
    millstream.Image.from_debian_base(name="mine", registry="registry.example.com")
    .with_apt_packages("curl", "git")
    .with_workdir("/srv")
)
env = millstream.TaskEnvironment("image_for_containers", image=image)
named = millstream.TaskEnvironment("image_for_containers_named", image="python:3.12-slim")


@named.task
async def there() -> int:
    return 2


@env.task
async def main() -> int:
    return 1 + await there()


EXPECT = 3
