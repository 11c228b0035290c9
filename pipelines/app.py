"""Show the search page of an index: `python pipelines/app.py INDEX --model CHECKPOINT`, as `crh app` does."""

from modeling_crh.cli import run
from modeling_crh.cli.share_commands import app

if __name__ == "__main__":
    run(app)
