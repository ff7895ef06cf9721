"""Files of the image lie below the working directory of its tasks."""

from pathlib import Path

import millstream

image = millstream.Image.from_debian_base().with_source_file(Path(__file__), "given/")
env = millstream.TaskEnvironment("image_files", image=image)


@env.task
def main() -> str:
    return Path("given/image_files.py").read_text().splitlines()[0]


EXPECT = '"""Files of the image lie below the working directory of its tasks."""'
