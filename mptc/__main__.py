"""`python -m mptc`"""

from mptc.cli import main

main(prog_name="mptc")
