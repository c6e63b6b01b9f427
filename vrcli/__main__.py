"""`python -m vrcli`, the same as `vr`."""

import os
import sys

if __name__ == "__main__":
    # Python puts the working directory first, where any file called like a library would hide it. It stays only where
    # vrcli itself comes from there. No import may stand before.
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if not sys.flags.safe_path and os.path.abspath(sys.path[0]) != here:
        del sys.path[0]

    from vrcli.cli.app import main

    main()
