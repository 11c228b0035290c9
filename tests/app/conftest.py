"""A search page over 60 images, served on a loopback port, and a browser that may talk to nobody else."""

import shutil
from urllib.parse import urlsplit

import pytest

from modeling_crh import DEFAULT_CHECKPOINT, CRHConfig, CRHModel
from modeling_crh.app.search_page import build_page
from modeling_crh.app.server import serving
from modeling_crh.data import load_benchmark
from modeling_crh.encoding import Encoder, load_checkpoint
from modeling_crh.encoding.loading import load_model
from modeling_crh.search import HammingIndex

CHROMIUM = shutil.which("chromium")
SWITCHES = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
SWITCHES += " --disable-component-update --disable-sync"


@pytest.fixture(scope="session")
def sample():
    """Sixty rows of the bundled sample."""
    return load_benchmark("fashion_mnist_sample")["database"].select(range(60))


@pytest.fixture(scope="session")
def checkpoint():
    """Name of the model."""
    return str(DEFAULT_CHECKPOINT)


@pytest.fixture(scope="session")
def image_root(sample, tmp_path_factory):
    """Folder of the images of the sample, by their numbers."""
    folder = tmp_path_factory.mktemp("database")
    for number, image in enumerate(sample["image"]):
        image.save(folder / f"{number:02d}.png")
    return folder


@pytest.fixture(scope="session")
def index(sample, image_root, checkpoint):
    """Their codes, with labels and paths."""
    paths = sorted(map(str, image_root.iterdir()))
    labels = sample.features["label"].int2str(sample["label"])
    return HammingIndex(Encoder.load(checkpoint).packed(paths), labels=labels, paths=paths, model=checkpoint)


@pytest.fixture(scope="session")
def index_path(index, tmp_path_factory):
    """The file of that index."""
    path = tmp_path_factory.mktemp("index") / "index.crh"
    index.save(path)
    return path


@pytest.fixture(scope="session")
def text_model(text_checkpoint, checkpoint, tmp_path_factory):
    """Folder of a model of texts with the centers of the model of images, not trained."""
    folder = tmp_path_factory.mktemp("words")
    texts, tokenizer = load_checkpoint(text_checkpoint)
    images = load_model(checkpoint)
    names = ("num_bits", "codebook_size", "head_dim", "id2label", "label2id")
    fields = {name: getattr(images.config, name) for name in names} | {"fixed_centers": True}
    model = CRHModel(CRHConfig(backbone_config=texts.config.backbone_config, **fields))
    model.load_state_dict({"codebook": images.codebook, "assignment": images.assignment}, strict=False)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def address(index_path, checkpoint, image_root):
    """Address of the page of that index, while the tests last."""
    with serving(build_page(index_path, checkpoint, image_root=image_root)) as found:
        yield found


@pytest.fixture(scope="session")
def browser():
    """Chromium, without a window."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES.split())
        yield started
        started.close()


@pytest.fixture
def visit(browser, address):
    """Open a page as a new person would; afterwards, nothing has left this machine, and no script has failed."""
    contexts, asked, failed = [], [], []

    def open_page(url=address, **settings):
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | settings))
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: failed.append(str(error)))
        page.on("console", lambda message: failed.append(message.text) if message.type == "error" else None)
        page.goto(url)
        page.locator(".crh-gallery button").first.wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert {urlsplit(url).hostname for url in asked if not url.startswith(("data:", "blob:"))} == {"127.0.0.1"}
    assert failed == []
