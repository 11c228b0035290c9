"""A small index over images, made by the commands' own functions."""

import pytest

from modeling_crh import cli


@pytest.fixture(scope="session")
def encoded(tiny_checkpoint, image_folder, tmp_path_factory):
    """Folder of the codes of 60 images, by the tiny checkpoint."""
    folder = tmp_path_factory.mktemp("encoded")
    cli.encode(str(tiny_checkpoint), str(image_folder), folder)
    return folder


@pytest.fixture(scope="session")
def index_path(encoded):
    """The index of those codes."""
    cli.index(encoded, encoded / "index.crh")
    return encoded / "index.crh"
