"""The store of vr: runs, their results, curves and artifacts, sweeps and trials.

`vrcli.db.store.Store` is the only way in; what leaves it are the frozen values of `vrcli.db.records`.
"""

if __name__ != "vrcli.db":
    raise ImportError("import vrcli.db: `db` alone is a name that belongs to your own project")
