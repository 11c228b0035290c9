"""Tables in an object store: a server on this machine that speaks S3."""

import socket

import boto3
import numpy as np
import pytest
from moto.server import ThreadedMotoServer

from modeling_crh.search import HammingIndex, open_index
from modeling_crh.search.lance_index import LanceIndex

PACKED = np.random.default_rng(0).integers(0, 256, (300, 4), dtype=np.uint8)
KEYS = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}


@pytest.fixture(scope="module")
def endpoint():
    """Address of a store with the bucket `codes`."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    boto3.client("s3", endpoint_url=url, region_name="us-east-1", **KEYS).create_bucket(Bucket="codes")
    yield url
    server.stop()


@pytest.fixture
def options(endpoint):
    return {"aws_endpoint": endpoint, "allow_http": "true", "aws_region": "us-east-1"} | KEYS


@pytest.fixture
def environment(options, monkeypatch):
    """The same, as a person sets it."""
    for name, value in options.items():
        monkeypatch.setenv(name.upper() if name.startswith("aws") else f"AWS_{name.upper()}", value)


@pytest.fixture
def no_patience(options):
    return options | {"client_max_retries": "0", "client_retry_timeout": "1"}


def test_a_table_in_a_store_is_searched_changed_and_restored(options):
    uri = "s3://codes/deep/er/photos.lance"
    index = LanceIndex.create(uri, PACKED, labels=["a", "b"] * 150, model="org/model", storage_options=options)
    expected = HammingIndex(PACKED).search(PACKED[:3], 20)
    np.testing.assert_array_equal(index.search(PACKED[:3], 20)[0], expected[0])
    other = LanceIndex(uri, storage_options=options)
    index.add(PACKED[:10], range(300, 310), labels=["c"] * 10)
    assert (len(index), len(other), len(other.at(1))) == (310, 300, 300)
    other.refresh()
    assert (len(other), other.delete({"label": "a"}), other.version, other.model) == (310, 150, 3, "org/model")
    index.restore(1)
    assert len(LanceIndex(uri, storage_options=options)) == 300
    index.optimize("ivf")
    assert index.search_radius(PACKED[:1], 0)[0][0].tolist() == [0]
    with pytest.raises(ValueError, match=r"`uri` must be new, but 's3://codes/deep/er/photos\.lance' is there already"):
        LanceIndex.create(uri, PACKED, storage_options=options)


def test_the_environment_names_the_store(environment, encoded, crh):
    uri = "s3://codes/environment.lance"
    for command, said in (
        (["index", encoded, "--out", uri], f"60 codes of 16 bits, flat, in {uri}\n"),
        (["search", uri, "0000", "-k", 2], ""),
        (["dedupe", uri, "--radius", 0], "among 60 items"),
    ):
        code, output, errors = crh(*command)
        assert code == 0, errors
        assert said in output
    assert len(open_index(uri)) == 60


def test_what_is_not_there_gets_one_sentence(no_patience, environment, crh):
    with pytest.raises(ValueError, match=r"`uri` must be .*, but 's3://nowhere/a\.lance' is not: there is no such b"):
        LanceIndex.create("s3://nowhere/a.lance", PACKED, storage_options=no_patience)
    code, output, errors = crh("search", "s3://codes/nothing.lance", "0000")
    assert (code, output) == (2, "")
    assert "Table 'nothing' was not found." in errors
    assert "Traceback" not in errors


def test_a_store_that_cannot_be_reached_gets_one_sentence(no_patience):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(ValueError, match="is not: the object store cannot be reached"):
            LanceIndex("s3://codes/a.lance", storage_options=no_patience | {"aws_endpoint": address})
