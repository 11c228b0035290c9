"""Encode a source into packed codes, on one process or many, as `crh encode` does.

accelerate launch pipelines/encode.py CHECKPOINT SOURCE --out DIR
"""

from modeling_crh.cli import run
from modeling_crh.cli.encode_commands import encode

if __name__ == "__main__":
    run(encode)
