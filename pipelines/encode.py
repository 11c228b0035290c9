"""Encode a source into packed codes, on one process or many, as `crh encode` does.

accelerate launch pipelines/encode.py CHECKPOINT SOURCE --out DIR
"""

from modeling_crh.cli import encode, run

if __name__ == "__main__":
    run(encode)
