"""``python -m pyairtable_mesh.meshctl``: the same as the command ``meshctl``."""

from pyairtable_mesh.meshctl.app import main

if __name__ == "__main__":
    main()
