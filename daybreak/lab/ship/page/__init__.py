"""The page: one HTML file with a model's programs, their weights and a runtime inside. It fetches nothing.

What it shows is the model's own script (`Model.page`), else a form of tensors. It is made from the ONNX export, whose
parity was measured; the runtime in the page is the same one, compiled for browsers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from daybreak import __version__
from daybreak.errors import UserError
from daybreak.lab.codec import plain
from daybreak.lab.home import write_json
from daybreak.lab.ship.export import Export, Exporter, publish
from daybreak.lab.ship.page.npm import PACKAGE, VERSION, runtime
from daybreak.lab.ship.page.pack import packed
from daybreak.lab.system import system

HERE = Path(__file__).parent
FILE = "index.html"


def make(exporter: Exporter) -> Export:
    """Write page/index.html beside the other exports. The ONNX export is made first, where this run has not made it.

    Raises:
        UserError: npm is missing, or a model's script would end its own tag.
        Differs: the ONNX export has no parity.
    """
    held = runtime()
    source = exporter.folder / "onnx"
    if "onnx" not in exporter.made:
        exporter.run(["onnx"])
    manifest = json.loads((source / publish.MANIFEST).read_text())
    text, about = render(exporter, source, manifest, held)
    with publish.making(exporter.folder, "page") as into:
        (into / FILE).write_bytes(b"\xff\xfe" + text.encode("utf-16-le"))
        weights = about["weights_gzipped"]
        size = publish.size(into)
        told = {**manifest, "target": "page", "bytes": size, "weights_gzipped": weights, "over_weights": size - weights}
        told["made"] = {**manifest["made"], "runtime": f"{PACKAGE} {VERSION}"}
        write_json(into / publish.MANIFEST, plain(told))
        path = publish.commit(into, exporter.folder, "page")
    return Export(path, told)


def render(
    exporter: Exporter, source: Path, manifest: dict[str, Any], held: dict[str, bytes]
) -> tuple[str, dict[str, Any]]:
    """The page's HTML and what it weighs."""
    import jinja2

    files = {path.name: path.read_bytes() for path in sorted(source.iterdir()) if path.suffix in (".onnx", ".bin")}
    floats = {"weights.bin": places(source)}
    text, index = packed({"runtime.wasm": held["runtime.wasm"], "runtime.mjs": held["runtime.mjs"], **files}, floats)
    _, own = packed(files, floats)
    page = exporter.model.page()
    about = {
        "programs": {
            name: {key: told[key] for key in ("about", "inputs", "outputs", "carried")}
            for name, told in manifest["programs"].items()
        },
        "describe": plain(exporter.model.describe()), "data": plain(dict(page.data)) if page else {}, **index,
    }  # fmt: skip
    found = system(exporter.system)
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True)
    html = environment.get_template("page.html.j2").render(
        title=f"{exporter.system}: {exporter.name}" if exporter.name != exporter.system else exporter.system,
        line=found.line,
        css=(HERE / "page.css").read_text(),
        about=json.dumps(about, ensure_ascii=True).replace("<", "\\u003c"),
        files=text,
        ort=_script(held["ort.js"].decode(), PACKAGE),
        runtime=_script((HERE / "runtime.js").read_text(), "the page"),
        script=_script(page.script.read_text(), str(page.script)) if page else "",
        made=f"Made by daybreak {__version__} from {Path(exporter.place.title).name}.",
    )
    return html, {"weights_gzipped": own["packed"]}


def places(source: Path) -> list[tuple[int, int]]:
    """Where in weights.bin fp32 weights are."""
    import onnx

    found = set()
    for path in source.glob("*.onnx"):
        for weight in onnx.load(path, load_external_data=False).graph.initializer:
            told = {one.key: one.value for one in weight.external_data}
            if weight.data_type == onnx.TensorProto.FLOAT and "offset" in told:
                found.add((int(told["offset"]), int(told["length"])))
    return sorted(found)


def _script(text: str, whose: str) -> str:
    """A script that may stand in HTML: without its source map, and without what would end the tag."""
    lines = [line for line in text.splitlines() if not line.startswith("//# sourceMappingURL")]
    text = "\n".join(lines)
    if "</script" in text.lower() or "<!--" in text:
        raise UserError(f"the script of {whose} contains '</script' or '<!--', which HTML would end it by")
    return text
