"""Task plugins: what is trained. Imported as `vrcli.tasks`, wherever the folder lies."""

if __name__ != "vrcli.tasks":
    raise ImportError("import vrcli.tasks: `tasks` alone is a name that belongs to your own project")
