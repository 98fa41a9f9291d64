"""Where a build leaves a site's files, as its configuration has it."""

import json

import pytest

from moorage.planning.plan import Settings
from moorage.planning.planner import make_plan
from moorage.planning.static import said
from support.engines.memory_tree import MemoryTree
from support.engines.toolboxes import TOOLBOX


def served(package: str, files: dict[str, str], build: str = "build") -> str:
    manifest = {"scripts": {"build": build}, "devDependencies": {package: "1"}}
    tree = MemoryTree({"package.json": json.dumps(manifest), **files})
    return said(make_plan(tree, Settings(), TOOLBOX).start).split(" ")[1]


@pytest.mark.parametrize(
    ("config", "output"),
    [
        ("{}", "dist/"),
        ("{ build: { outDir: 'out' } }", "out/"),
        ("{ build: { outDir: '/out/' } }", "dist/"),
        ("{ root: 'src' }", "src/dist/"),
        ("{ root: './src', build: { outDir: '../site' } }", "site/"),
        ("{ root: path.resolve(__dirname, 'client') }", "client/dist/"),
        (
            "{ root: 'client', build: { outDir: resolve(import.meta.dirname, 'dist/public') } }",
            "dist/public/",
        ),
        ("{ build: { outDir: '../elsewhere' } }", "dist/"),
        ("{ build: { // outDir: 'out'\n } }", "dist/"),
        ("{ build: { /* outDir: 'out' */ outDir: 'site' } }", "site/"),
        ("{ base: 'https://x/', build: { outDir: 'site' } }", "site/"),
    ],
)
def test_vites_directory_is_found(config: str, output: str) -> None:
    assert served("vite", {"vite.config.ts": f"export default {config}"}) == output


@pytest.mark.parametrize(
    ("package", "files", "build", "output"),
    [
        ("vitepress", {}, "vitepress build", ".vitepress/dist/"),
        ("vitepress", {}, "vitepress build ./docs", "docs/.vitepress/dist/"),
        ("vitepress", {}, "vitepress build ../docs", ".vitepress/dist/"),
        ("astro", {"astro.config.mjs": "export default { outDir: './site' }"}, "build", "site/"),
        ("@11ty/eleventy", {".eleventy.js": 'x = { dir: { output: "site" } }'}, "build", "site/"),
        ("next", {"next.config.js": "x = { output: 'export' }"}, "next build", "out/"),
        (
            "next",
            {"next.config.js": "x = { output: 'export', distDir: '.next' }"},
            "next build",
            "out/",
        ),
        ("hexo", {}, "hexo generate", "public/"),
        ("vuepress", {}, "vuepress build docs --debug", "docs/.vuepress/dist/"),
        ("rspress", {}, "rspress build", "doc_build/"),
        ("@slidev/cli", {}, "slidev build", "dist/"),
        ("@stencil/core", {}, "stencil build", "www/"),
        ("ember-cli", {}, "ember build", "dist/"),
        ("@quasar/app-vite", {}, "quasar build", "dist/spa/"),
        ("umi", {}, "umi build", "dist/"),
        ("@rsbuild/core", {}, "rsbuild build", "dist/"),
        ("@rspack/cli", {}, "rspack build", "dist/"),
    ],
)
def test_other_generators_directories_are_found(
    package: str, files: dict[str, str], build: str, output: str
) -> None:
    assert served(package, files, build) == output


@pytest.mark.parametrize("text", ["'" * 60_000, "`" * 65_000, "/*" * 32_000, '\\"' * 32_000])
def test_configuration_made_to_be_slow_is_read_in_linear_time(text: str) -> None:
    # Nothing is measured: with one pattern of quadratic cost this takes minutes.
    assert served("vite", {"vite.config.ts": text}) == "dist/"
