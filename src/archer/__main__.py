"""`python -m archer`, as launchers of several processes want it."""

from archer.cli import main

main()
