"""The frameworks that planning knows, and what their builds produce."""

from typing import NamedTuple

from moorage.planning.plan import Stack


class Framework(NamedTuple):
    """A framework: its stack, and for a site generator the output of its build."""

    name: str
    stack: Stack
    package: str = ""  # the npm package that identifies it
    output: str = ""  # the directory of files to serve that a build makes; "" for a server
    fallback: bool = False  # unknown paths get index.html, which routes in the browser


# In the order of detection: a framework comes before those that it builds on.
SITES = (
    Framework("gatsby", Stack.NODE, "gatsby", "public"),
    Framework("hexo", Stack.NODE, "hexo", "public"),
    Framework("hugo", Stack.NODE, "hugo-extended", "public"),
    Framework("hugo-bin", Stack.NODE, "hugo-bin", "public"),
    Framework("vitepress", Stack.NODE, "vitepress", ".vitepress/dist"),
    Framework("vuepress", Stack.NODE, "vuepress", ".vuepress/dist"),
    Framework("rspress", Stack.NODE, "rspress", "doc_build"),
    Framework("slidev", Stack.NODE, "@slidev/cli", "dist", fallback=True),
    Framework("stencil", Stack.NODE, "@stencil/core", "www", fallback=True),
    Framework("ember", Stack.NODE, "ember-cli", "dist", fallback=True),
    Framework("quasar", Stack.NODE, "@quasar/app-vite", "dist/spa", fallback=True),
    Framework("expo", Stack.NODE, "expo", "dist", fallback=True),
    Framework("umi", Stack.NODE, "umi", "dist", fallback=True),
    Framework("docusaurus", Stack.NODE, "@docusaurus/core", "build"),
    Framework("astro", Stack.NODE, "astro", "dist"),
    Framework("eleventy", Stack.NODE, "@11ty/eleventy", "_site"),
    Framework("create-react-app", Stack.NODE, "react-scripts", "build", fallback=True),
    Framework("vue-cli", Stack.NODE, "@vue/cli-service", "dist", fallback=True),
    Framework("angular", Stack.NODE, "@angular/core", "dist", fallback=True),
    Framework("preact-cli", Stack.NODE, "preact-cli", "build", fallback=True),
    Framework("vite", Stack.NODE, "vite", "dist", fallback=True),
    Framework("parcel", Stack.NODE, "parcel", "dist", fallback=True),
    Framework("rsbuild", Stack.NODE, "@rsbuild/core", "dist", fallback=True),
    Framework("rspack", Stack.NODE, "@rspack/cli", "dist", fallback=True),
    Framework("webpack", Stack.NODE, "webpack", "dist", fallback=True),
)

_NODE_SERVERS = (
    *("express", "fastify", "koa", "hono", "nestjs", "node"),
    *("nextjs", "nuxt", "remix", "react-router", "sveltekit", "tanstack-start", "ssr"),
)
_PYTHON = (
    *("fastapi", "fasthtml", "starlette", "litestar", "quart", "flask", "django"),
    *("streamlit", "gradio"),
)
_OTHERS = {
    Stack.DENO: ("fresh",),
    Stack.GO: ("gin", "fiber", "echo"),
    Stack.RUST: ("actix", "axum", "rocket"),
    Stack.RUBY: ("rails", "sinatra"),
    Stack.PHP: ("laravel", "symfony"),
    Stack.JAVA: ("spring",),
}

_NAMED = {
    **{site.name: site for site in SITES},
    **{name: Framework(name, Stack.NODE) for name in _NODE_SERVERS},
    **{name: Framework(name, Stack.PYTHON) for name in _PYTHON},
    **{name: Framework(name, stack) for stack, names in _OTHERS.items() for name in names},
    "static": Framework("static", Stack.STATIC),
}

_ALIASES = {
    "next": "nextjs",
    "next.js": "nextjs",
    "nuxtjs": "nuxt",
    "nuxt.js": "nuxt",
    "nest": "nestjs",
    "nodejs": "node",
    "node.js": "node",
    "svelte-kit": "sveltekit",
    "reactjs-ssr": "ssr",
    "vuejs-ssr": "ssr",
    "cra": "create-react-app",
    "11ty": "eleventy",
    "html": "static",
    **dict.fromkeys(
        ("react", "reactjs", "react-spa", "reactjs-spa", "vue", "vuejs", "vuejs-spa", "svelte"),
        "vite",
    ),
}


def framework_named(name: str) -> Framework | None:
    """Returns the framework of that lower-case name; None when it isn't known."""
    return _NAMED.get(_ALIASES.get(name, name))
