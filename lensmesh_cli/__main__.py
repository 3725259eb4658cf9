"""`python -m lensmesh_cli` is `lensmesh`."""

from lensmesh_cli.main import main

if __name__ == "__main__":
    main()
