"""``python -m sparsemed`` is the command ``sparsemed``."""

from sparsemed.cli import main

main(prog_name="sparsemed")
