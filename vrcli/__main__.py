"""`python -m vrcli`, the same as `vr`."""

from vrcli.cli.app import main

if __name__ == "__main__":
    main()
