"""A small index over images, and files of codes as `crh encode` writes them."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modeling_crh.data import open_source
from modeling_crh.encoding import Encoder
from modeling_crh.encoding.encode import encode_source
from modeling_crh.search import index_codes
from modeling_crh.search.lance_index import codes_to_table


@pytest.fixture(scope="session")
def encoder(tiny_checkpoint):
    """The tiny checkpoint, which reads images."""
    return Encoder.load(tiny_checkpoint)


@pytest.fixture(scope="session")
def encoded(encoder, tiny_checkpoint, image_folder, tmp_path_factory):
    """Folder of the codes of 60 images, by the tiny checkpoint."""
    folder = tmp_path_factory.mktemp("encoded")
    encode_source(encoder, open_source(str(image_folder)), folder, model_name=str(tiny_checkpoint))
    return folder


@pytest.fixture(scope="session")
def index_path(encoded):
    """The index of those codes."""
    index_codes(encoded).save(encoded / "index.crh")
    return encoded / "index.crh"


@pytest.fixture(scope="session")
def table_uri(encoded):
    """The table of those codes."""
    codes_to_table(encoded, encoded / "table.lance")
    return str(encoded / "table.lance")


@pytest.fixture(scope="session")
def write_codes():
    """Write rows of 50 codes of 32 bits as a parquet file, with other columns; gives all codes."""
    packed = np.random.default_rng(0).integers(0, 256, (50, 4), dtype=np.uint8)

    def write(file, rows=slice(None), metadata=None, **columns):
        codes = pa.array([code.tobytes() for code in packed[rows]], pa.binary(4))
        named = {"model": "org/model", "revision": "main", "num_bits": "32"} if metadata is None else metadata
        table = pa.table({"code": codes} | columns).replace_schema_metadata(named)
        pq.write_table(table, file, row_group_size=20)
        return packed

    return write
