"""What a newcomer gets, in virtual environments of their own: `make check-installed`, some minutes and 6 GB of disk.

The checkpoint that ships is pushed to a loopback Hub. In an environment that has torch and transformers, but not this
package, `AutoModel` and `pipeline` load it from there by its own code. Then the wheel is built and installed there, and
`pipeline("crh-hashing")` runs offline. All must give the codes of this environment, bit for bit. The last line of
output is one JSON document.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1]))  # a script beside the tests, that no test runs

from hub.loopback_hub import LoopbackHub

ROOT = Path(__file__).parents[2]
CHECKPOINT = ROOT / "modeling_crh" / "checkpoints" / "fashion-mnist-64"
REPO = "ada/fashion-mnist-64"
NUM_IMAGES = 50

ENCODE = """
import importlib.util, json, sys
from pathlib import Path
from PIL import Image
from transformers import AutoModel, pipeline
folder, source, imported = sys.argv[1:]
images = [Image.open(path) for path in sorted(Path(folder).glob("*.png"))]
assert (importlib.util.find_spec("modeling_crh") is not None) == (imported == "yes"), imported
if imported == "yes":
    import modeling_crh
    hashing = pipeline("crh-hashing")
else:
    hashing = pipeline(model=source, trust_remote_code=True)
    model = AutoModel.from_pretrained(source, trust_remote_code=True)
    alone = [model.encode(**hashing.preprocess(image))[0] for image in images]
codes = [item["code"] for item in hashing(images, code_format="hex")]
if imported == "no":
    assert codes == [f"{int(''.join('1' if bit > 0 else '0' for bit in code.tolist()), 2):016x}" for code in alone]
print(json.dumps(codes))
"""


def main() -> None:
    with TemporaryDirectory() as name, LoopbackHub() as hub:
        folder = Path(name)
        environment = os.environ | {"HF_HOME": str(folder / "home"), "HF_HUB_DISABLE_XET": "1"}
        online = environment | {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": "hf_ada"}
        save_images(folder / "images")
        encode = ["-c", ENCODE, folder / "images", REPO]

        run([Path(sys.executable).with_name("crh"), "push", CHECKPOINT, REPO], online, folder)
        here = json.loads(run([sys.executable, *encode, "yes"], environment, folder).splitlines()[-1])

        run([sys.executable, "-m", "venv", folder / "venv"], environment, folder)
        python = folder / "venv" / "bin" / "python"
        install = [python, "-m", "pip", "install", "--quiet"]
        run([*install, "torch", "torchvision", "transformers>=5.20,<6", "pillow"], environment, folder)
        without = json.loads(run([python, *encode, "no"], online, folder).splitlines()[-1])

        wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", ROOT, "--wheel-dir", folder / "wheel"]
        run(wheel, environment, folder)
        run([*install, next((folder / "wheel").glob("*.whl"))], environment, folder)
        offline = environment | {"HF_HUB_OFFLINE": "1"}
        installed = json.loads(run([python, *encode, "yes"], offline, folder).splitlines()[-1])
        print(json.dumps({"codes": len(here), "without_package": without == here, "wheel": installed == here}))
        if not without == here == installed:
            sys.exit(1)


def save_images(folder: Path) -> None:
    from modeling_crh.data import load_benchmark

    folder.mkdir()
    for number, image in enumerate(load_benchmark("fashion_mnist_sample")["query"]["image"][:NUM_IMAGES]):
        image.save(folder / f"{number:03}.png")


def run(command: list, environment: dict[str, str], folder: Path) -> str:
    """Standard output; standard error is shown."""
    print("running", *map(str, command[:4]), file=sys.stderr, flush=True)
    return subprocess.run(command, env=environment, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
