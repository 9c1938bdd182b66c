"""The API reference: one page for a browser, made by pdoc of the docstrings, with pictures by the functions that draw.

Warnings are errors, and so are a link and a name that lead nowhere. In the environment of CONTRIBUTING.md,
`.venv/bin/python .ci/reference/build.py` writes build/reference/index.html and what belongs to it.
"""

import builtins
import html
import inspect
import pathlib
import pydoc
import re
import shutil
import textwrap
import warnings

import funcnet as fn
import funcnet.sklearn as estimators

try:
    import pdoc
    from pictures import draw
except ImportError as error:
    raise SystemExit(f"The reference needs {error.name}. Install it by: pip install -e '.[test,dev]'") from None

import annotations

HERE = pathlib.Path(__file__).parent
TARGET = HERE.parents[1] / "build" / "reference"
OTHERS = {"BatchGrad", "BatchL2Grad", "DiagGGNExact", "DiagGGNMC", "KFAC", "KFLR", "SumGradSquared", "Variance"}
OTHERS |= {"Context"}  # one of ours that is handed on and never made by a user
SECTIONS = "Args|Attributes|Example|Raises|Returns"


def add_results() -> dict[str, str]:
    """Behind a function the type of what it gives, if that has no public name; for each, the function's name."""
    found: dict[str, str] = {}
    for name in fn.__all__:
        kind = inspect.get_annotations(getattr(fn, name)).get("return") if callable(getattr(fn, name)) else None
        for base in kind.__mro__ if inspect.isclass(kind) and kind.__name__ not in fn.__all__ else ():
            if base.__module__.startswith("funcnet."):
                found.setdefault(base.__name__, name)
                setattr(fn, base.__name__, base)
    for result, name in reversed(found.items()):
        fn.__all__.insert(fn.__all__.index(name) + 1, result)
    return found


def headed(section: re.Match[str]) -> str:
    """A section of the first page as pdoc lists it beside the page."""
    return f"## {section[1]}\n\n{textwrap.dedent(section[2])}"


def add_estimators() -> None:
    """The classes of `funcnet.sklearn` on the same page."""
    for name in estimators.__all__:
        cls = getattr(estimators, name)
        cls.fit = cls.fit  # its own, so that it is shown and not named as inherited
        setattr(fn, name, cls)
        fn.__all__.append(name)


def reference(pictures: list[str]) -> dict[str, str]:
    """The files: the page, where one begins, and the index for the search."""
    results = add_results()
    entries = {name: getattr(fn, name) for name in fn.__all__}
    for entry in entries.values():
        if callable(entry):
            annotations.write(entry)
    protocols = [name for name, entry in entries.items() if getattr(entry, "_is_protocol", False)]
    layers = [name for name, entry in entries.items() if hasattr(entry, "backward") and name not in protocols]
    pdoc.render.configure(docformat="google", template_directory=HERE, footer_text=f"funcnet {fn.__version__}")
    pdoc.render.env.globals.update(pictures=pictures, results=results, protocols=protocols, layers=layers)
    page = pdoc.doc.Module(fn)
    page.docstring = page.docstring.replace(
        " and ".join(estimators.__all__), " and ".join(map("`{}`".format, estimators.__all__))
    )
    page.docstring = re.sub(r"^([A-Z].*):\n((?:    .*\n)+)", headed, page.docstring + "\n", flags=re.MULTILINE)
    texts = pdoc.doc_ast.walk_tree(inspect.getmodule(fn.Layer)).var_docstrings
    page.members["Params"].docstring = texts["Params"]
    modules = {"funcnet": page}
    return {
        "funcnet.html": pdoc.render.html_module(page, modules),
        "index.html": pdoc.render.html_index(modules),
        "search.js": pdoc.render.search_index(modules),
    }


def check(page: str, public: list[str]) -> None:
    """Every public name is a link on the first page; links and names lead somewhere; sections are read as such."""
    first = page[page.index('<section class="module-info">') : page.index("</section>")]
    links, ends = re.findall(r'<a[^>]* href="#([^"]+)"', page), re.findall(r' id="([^"]+)"', page)
    names = re.findall(r"<code>(?:fn|funcnet)\.([\w.]+)", page)
    wrong = [f"{name} has no link on the first page." for name in public if f'href="#{name}"' not in first]
    wrong += [
        f"{name} has no picture." for name in public if name[:5] == "plot_" and f"pictures/{name}.png" not in page
    ]
    wrong += [f"A link leads to {name}, which has no entry." for name in {*links} - {*ends}]
    wrong += [f"fn.{name} is spoken of and is not there." for name in names if pydoc.locate(f"funcnet.{name}") is None]
    unknown = set(re.findall(r"<code>([A-Z][A-Za-z0-9]+)(?:\(\))?</code>", page)) - OTHERS - {*dir(builtins)}
    wrong += [
        f"{name} is spoken of and is no public name. If it is another library's, add it to OTHERS." for name in unknown
    ]
    unread = re.findall(rf"<p>((?:(?:{SECTIONS}):|&gt;&gt;&gt;).*)", page)
    wrong += [
        f"A section of a docstring is not read as one, or is not indented: {html.unescape(line)}" for line in unread
    ]
    if wrong:
        raise SystemExit("The reference is not whole.\n" + "\n".join(sorted(wrong)))


def main() -> None:
    add_estimators()
    public = list(fn.__all__)
    shutil.rmtree(TARGET, ignore_errors=True)
    pictures = draw(TARGET / "pictures")
    warnings.simplefilter("error")
    files = reference(pictures)
    check(files["funcnet.html"], public)
    for name, text in files.items():
        (TARGET / name).write_text(text, encoding="utf-8")
    print(f"{len(public)} names, {len(pictures)} pictures: {TARGET / 'index.html'}")


if __name__ == "__main__":
    main()
