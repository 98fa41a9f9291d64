"""Scripts that watch files, and what they run."""

import pytest

from moorage.planning.node.package_json import PackageJson
from moorage.planning.node.starts import without_watching


@pytest.mark.parametrize(
    ("start", "once"),
    [
        ("nodemon server.js", "node server.js"),
        ("npx nodemon server.js --verbose", "node server.js --verbose"),
        ("nodemon -L --watch src -e js,json src/server.js", "node src/server.js"),
        ("nodemon src/server.ts", "ts-node src/server.ts"),
        ("nodemon --exec 'node --import tsx' src/server.ts", "node --import tsx src/server.ts"),
        ('nodemon -x "tsx src/server.ts"', "tsx src/server.ts"),
        ("node --watch server.js", "node server.js"),
        ("node --watch-path=src --env-file=.env server.js", "node --env-file=.env server.js"),
        ("node --watch server.js --name=$NAME", "node --watch server.js --name=$NAME"),
        ("tsx watch src/index.ts", "tsx src/index.ts"),
        ("tsx watch --clear-screen=false src/index.ts", "tsx src/index.ts"),
        ("bun --hot src/index.ts", "bun src/index.ts"),
        ("bun run --watch src/index.ts", "bun run src/index.ts"),
        (
            "ts-node-dev --respawn --transpile-only src/index.ts",
            "ts-node --transpile-only src/index.ts",
        ),
        ("NODE_ENV=production nodemon server.js", "NODE_ENV=production node server.js"),
        ("cross-env A=1 nodemon server.js", "cross-env A=1 node server.js"),
        ("npm run dev", "node dev.js"),
    ],
)
def test_watched_script_is_run_once(start: str, once: str) -> None:
    scripts = {"start": start, "dev": "nodemon dev.js"}
    assert (without_watching(PackageJson(scripts=scripts), "start") or start) == once


@pytest.mark.parametrize(
    "start", ["node server.js", "nodemon", "nodemon 'a", "nodemon a.js & nodemon b.js", "tsx a.ts"]
)
def test_script_that_cannot_be_run_otherwise_is_left_alone(start: str) -> None:
    assert without_watching(PackageJson(scripts={"start": start}), "start") == ""
