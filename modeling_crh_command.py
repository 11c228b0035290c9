"""Entry point of the command `crh`.

It lies outside of the package, so that `modeling_crh` knows that `crh` imports it, and leaves torch and transformers to
the commands that need them.
"""


def main() -> None:
    """Run `crh`."""
    from modeling_crh.cli import main as run_commands

    run_commands()
