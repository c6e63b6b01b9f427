from vrcli.bench.sweep import rows


def test_the_benchmark_times_every_method_at_every_size():
    found = rows(methods=("random", "gp"), sizes=(10, 15), rounds=2)
    assert [(row["search"], row["trials"], row["n"]) for row in found] == [
        ("random", 10, 2),
        ("random", 15, 2),
        ("gp", 10, 2),
        ("gp", 15, 2),
    ]
    assert all(row["per_trial_ms"] >= row["ask_ms"] > 0 for row in found)
    by_name = {row["search"]: row["ask_ms"] for row in found}
    assert by_name["gp"] > by_name["random"]
