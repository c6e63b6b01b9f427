"""The store of vr: runs, their results, curves and artifacts, sweeps and trials.

`db.store.Store` is the only way in; what leaves it are the frozen values of `db.records`.
"""
