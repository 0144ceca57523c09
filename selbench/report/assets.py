"""What pages need besides themselves: style, script, and the DataTables that itables ships."""

import re
from importlib import resources
from pathlib import Path

from selbench._kit.files import write_text

OWN = ("site.css", "tables.js")
EXPORTS = re.compile(r"export\{([^{}]*)\};")


def write_assets(folder: Path) -> None:
    """Write the assets into `folder`."""
    bundle = resources.files("itables") / "html"
    write_text(folder / "datatables.js", classic((bundle / "dt_bundle.js").read_text("utf-8")))
    write_text(folder / "datatables.css", (bundle / "dt_bundle.css").read_text("utf-8"))
    for name in OWN:
        asset = resources.files("selbench.report") / "assets" / name
        write_text(folder / name, asset.read_text("utf-8"))


def classic(module: str) -> str:
    """Turn a script's module into a plain script that defines `selbenchTables`.

    Browsers do not load modules from disk.
    """
    found = EXPORTS.search(module)
    assert found is not None, "itables' bundle exports nothing"
    pairs = [part.split(" as ") for part in found[1].split(",")]
    names = ",".join(f"{name}:{value}" for value, name in pairs)
    code, licences = module[: found.start()], module[found.end() :]
    return f"var selbenchTables=(()=>{{{code}\nreturn{{{names}}};}})();{licences}"
