"""Show the search page of an index: `python pipelines/app.py INDEX --model CHECKPOINT`, as `crh app` does."""

from modeling_crh.cli.share_commands import app
from modeling_crh.runtime.terminal import run

if __name__ == "__main__":
    run(app)
