"""Print docs/backbones.md: python tests/backbones/table.py > docs/backbones.md."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from backbones.architectures import ARCHITECTURES, REFUSED, Architecture, tiny_config

from modeling_crh.backbones import build_backbone, pooled_width

READS = {"pixel_values": "images", "input_ids": "texts", "input_values": "sounds", "input_features": "sounds"}
POOLED = {
    "embedding": "the embedding of its authors, with the projection",
    "pooler": "its own pooled output",
    "cls": "the first token",
    "mean": "mean without padding",
    "last": "last token without padding",
}
WIDTHS = (
    "projection_dim hidden_size d_model dim n_embd emb_dim hidden_sizes neck_hidden_sizes embed_dim embed_dims".split()
)
HEADER = """# Backbones

`CRHModel.from_backbone(name)` takes a model of images, texts or sounds that `AutoModel` loads, of transformers or timm.
It is pooled as its authors pool it; `pooling` of `CRHConfig` takes another way. Of a dual encoder such as CLIP it takes
one tower: `tower="vision"`, which is the default, `"text"` or `"audio"`.

These were tried with tiny random weights: every weight arrives from the checkpoint, the pooled vector is that of the
authors' code, padding has no influence, two calls agree, gradients flow, and a saved model gives equal codes.
`make test-backbones` does it again, and `python tests/backbones/table.py > docs/backbones.md` writes this table.

| model type | reads | becomes one vector by | width |
| --- | --- | --- | --- |"""


def row_of(architecture: Architecture) -> str:
    """Write one row of the table."""
    config = tiny_config(architecture.kind, architecture.fields)
    backbone = build_backbone(config, tower=architecture.tower)
    found = width_name(config, architecture, pooled_width(backbone))
    reads = READS[backbone.main_input_name]
    name = architecture.name.replace(":", ", ", 1).replace("timm_wrapper", "timm")
    return f"| {name} | {reads} | {POOLED[architecture.pooling]} | {found} |"


def width_name(config, architecture, width):
    """The field of the config that holds the width, or "as built"."""
    part = getattr(config, f"{architecture.tower}_config", config) if architecture.tower else config
    for owner in (config, part):
        for name in WIDTHS:
            value = getattr(owner, name, None)
            if (value[-1] if isinstance(value, list | tuple) else value) == width:
                return f"`{name}[-1]`" if isinstance(value, list | tuple) else f"`{name}`"
    return "as built"


def reason_of(kind: str) -> str:
    """Write why a model type is refused."""
    try:
        pooled_width(build_backbone(tiny_config(kind, {})))
    except ValueError as error:
        return f"- {kind}: {str(error).partition(f'but {kind} ')[2] or error}"
    raise AssertionError(f"{kind} is not refused")


if __name__ == "__main__":
    print(HEADER)
    print("\n".join(sorted(map(row_of, ARCHITECTURES))))
    print("\nRefused when the model is built, with the reason:\n")
    print("\n".join(sorted(map(reason_of, REFUSED))))
