"""Encode a source into packed codes, on one process or many, as `crh encode` does.

accelerate launch pipelines/encode.py CHECKPOINT SOURCE --out DIR
"""

from modeling_crh.cli.encode_commands import encode
from modeling_crh.runtime.terminal import run

if __name__ == "__main__":
    run(encode)
