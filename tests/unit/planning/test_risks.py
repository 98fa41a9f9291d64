"""What a plan says may keep an app from being built, started or answering."""

import json
import time

import msgspec
import pytest

from moorage.planning.plan import Confidence, Plan, RiskCode, Settings, confidence
from moorage.planning.planner import make_plan
from moorage.planning.toolbox import Toolbox
from support.engines.memory_tree import MemoryTree
from support.engines.toolboxes import EVERYTHING

FLASK = "from flask import Flask\napp = Flask(__name__)\n"
SMALL = msgspec.structs.replace(EVERYTHING, disk_mib=1024)
WITH_FFMPEG = msgspec.structs.replace(EVERYTHING, programs=("ffmpeg", "ext-curl"))


def plan(
    files: dict[str, str], toolbox: Toolbox = EVERYTHING, run_envs: dict[str, str] | None = None
) -> Plan:
    return make_plan(MemoryTree(files), Settings(run_envs=run_envs or {}), toolbox)


def codes(
    files: dict[str, str], toolbox: Toolbox = EVERYTHING, run_envs: dict[str, str] | None = None
) -> list[str]:
    return [risk.code.value for risk in plan(files, toolbox, run_envs).risks or ()]


def express(text: str, **fields: object) -> dict[str, str]:
    manifest = {"scripts": {"start": "node server.js"}, "dependencies": {"express": "^4"}, **fields}
    return {"package.json": json.dumps(manifest), "server.js": f"const PORT = 1\n{text}\n"}


def python(text: str, requirements: str = "flask") -> dict[str, str]:
    return {"app.py": f"{FLASK}{text}\n", "requirements.txt": requirements}


SPRING = {
    "src/Main.java": "public class Main { public static void main(String[] a) {} }",
    "src/application.properties": "spring.datasource.url=${DATABASE_URL}\n",
}
NEEDS = [
    (python("import os\nKEY = os.environ['STRIPE_KEY']"), "STRIPE_KEY", "start"),
    (python("import os\ndef pay():\n    os.environ['STRIPE_KEY']"), "STRIPE_KEY", "requests"),
    (python("import os\nclass Config:\n    KEY = os.environ['STRIPE_KEY']"),
     "STRIPE_KEY", "start"),
    (python("import os\ndef init_pay():\n    if True:\n        x()\n    os.environ['STRIPE_KEY']"),
     "STRIPE_KEY", "start"),
    (python("from pay import key") | {"pay.py": "import os\nkey = os.environ['STRIPE_KEY']"},
     "STRIPE_KEY", "start"),
    (python("app.config.from_object('config.Live')")
     | {"config.py": "import os\nclass Live:\n    KEY = os.environ['STRIPE_KEY']"},
     "STRIPE_KEY", "start"),
    (python("import importlib\nimportlib.import_module(name)")
     | {"pay.py": "import os\nkey = os.environ['STRIPE_KEY']"}, "STRIPE_KEY", "start"),
    (python("from openai import OpenAI\nimport os\nc = OpenAI(api_key=os.getenv('LLM_TOKEN'))",
            "flask\nopenai"), "LLM_TOKEN", "start"),
    (python("from langchain_openai import ChatOpenAI\nm = ChatOpenAI(model='gpt-4o')",
            "flask\nlangchain-openai"), "OPENAI_API_KEY", "start"),
    (express("const stripe = new Stripe(process.env.STRIPE_KEY, {})"), "STRIPE_KEY", "start"),
    (express("app.post('/', (req, res) => {\n  if (!process.env.PAY_KEY) {\n"
             "    throw new Error('PAY_KEY is missing');\n  }\n})"), "PAY_KEY", "requests"),
    (express("", dependencies={"express": "4", "react": "19"})
     | {"app/page.tsx": "const k = process.env.PAY_KEY\nif (!k) throw new Error('no PAY_KEY')"},
     "PAY_KEY", "start"),
    (python("from decouple import config\nKEY = config('API_KEY')", "flask\npython-decouple"),
     "API_KEY", "start"),
    (python("import os\nKEY = os.getenv('TOKEN')\nif not KEY:\n    raise ValueError('no TOKEN')"),
     "TOKEN", "start"),
    (python("from openai import OpenAI\nclient = OpenAI()", "flask\nopenai"),
     "OPENAI_API_KEY", "start"),
    (python("from pydantic_settings import BaseSettings\nclass Settings(BaseSettings):\n"
            "    billing_code: str\n    debug: bool = False\n\ns = Settings()",
            "flask\npydantic-settings"), "BILLING_CODE", "start"),
    (express("if (!process.env.BILLING_CODE) throw new Error('BILLING_CODE is missing')"),
     "BILLING_CODE", "start"),
    (express("const url = process.env.API_BASE!"), "API_BASE", "requests"),
    (express("", dependencies={"express": "4", "@prisma/client": "6"})
     | {"prisma/schema.prisma": 'datasource db {\n  url = env("DATABASE_URL")\n}\n'},
     "DATABASE_URL", "requests"),
    (SPRING, "DATABASE_URL", "start"),
    ({"go.mod": "module x\n\ngo 1.22\n",
      "main.go": 'package main\nfunc main() {\n\tk := os.Getenv("KEY_ID")\n\tif k == "" {\n'
                 '\t\tlog.Fatal("KEY_ID is not set")\n\t}\n}\n'}, "KEY_ID", "start"),
    ({"app.rb": "require 'sinatra'\nCODE = ENV.fetch('CODE')\n", "Gemfile": "gem 'sinatra'\n"},
     "CODE", "start"),
    ({"Cargo.toml": '[package]\nname = "a"\nversion = "0.1.0"\n',
      "src/main.rs": 'fn main() { std::env::var("DB_URL").expect("DB_URL"); }'}, "DB_URL", "start"),
]  # fmt: skip


@pytest.mark.parametrize(("files", "name", "stops"), NEEDS)
def test_variable_that_the_code_insists_on_is_a_risk_until_it_is_set(
    files: dict[str, str], name: str, stops: str
) -> None:
    (risk,) = plan(files).risks or ()
    assert (risk.code, risk.stops, risk.variables) == ("variable_unset", stops, (name,))
    assert f"{name}: send it in settings.runEnvs" in risk.message
    assert codes(files, run_envs={name: "x"}) == []
    assert codes({**files, ".env": f"{name}=x\n"}) == []


@pytest.mark.parametrize(
    "files",
    [
        python("import os\nKEY = os.environ.get('STRIPE_KEY')"),
        python("import os\nos.environ['TZ_NAME'] = 'UTC'"),
        python("import os\nos.environ.setdefault('MODE', 'x')\nMODE = os.environ['MODE']"),
        python("import os\nif 'KEY' in os.environ:\n    print(os.environ['KEY'])"),
        python("import os\n# KEY = os.environ['KEY']"),
        python("import os\nPORT = os.environ['PORT']"),
        python("from decouple import config\nD = config('D_B', default='x')"),
        express("const key = process.env.API_KEY || 'x'"),
        express("") | {"tests/a.test.js": "throw new Error(process.env.API_KEY)"},
        express("if (process.env.API_KEY) start(process.env.API_KEY!)"),
        express("const key = process.env.API_KEY ? process.env.API_KEY! : ''"),
        express("process.env.PORT\nthrow new Error('Only GET requests of JSON')"),
        express("createEnv({\n  API_URL: z.string()\n    .default('a'),\n})\nprocess.env"),
        express("") | {"prisma/.env": "A_URL=file:a",
                       "prisma/schema.prisma": 'datasource db {\n  url = env("A_URL")\n}\n'},
        python("import os\nif os.getenv('API_KEY'):\n    key = os.environ['API_KEY']"),
        python("import os\ntry:\n    key = os.environ['API_KEY']\nexcept KeyError:\n    key = 1"),
        python("import os\nos.environ['API_KEY'] = '1'\nprint(os.environ['API_KEY'])"),
        python("import os\nos.getenv('PORT')\ndef f():\n    raise ValueError('no JSON')"),
        python("import environ\nenv = environ.Env(API=(bool, False))\nAPI = env('API')"),
        python("from pydantic_settings import BaseSettings\nclass Settings(BaseSettings):\n"
               '    """It has\n\n    name: of the app\n    """\n    name: str = "a"\n'),
        python("") | {"seed.py": "import os\nos.environ['ADMIN_PASSWORD']"},
        python("") | {"local_settings.py": "import os\nKEY = os.environ['LOCAL_KEY']"},
        python("import settings.prod") | {
            "settings/__init__.py": "", "settings/prod.py": "import os",
            "settings/dev.py": "import os\nKEY = os.environ['DEV_KEY']"},
        python('import os\ndef f():\n    """Reads os.environ[\'API_KEY\'] first."""'),
        python("from openai import OpenAI\nc = OpenAI(base_url='http://a', api_key='x')",
               "flask\nopenai"),
    ],
)  # fmt: skip
def test_variable_that_has_a_default_or_may_be_left_out_is_none(files: dict[str, str]) -> None:
    assert codes(files) == []


SERVICES = [
    (python("import redis\nr = redis.Redis(host='redis', port=6379)", "flask\nredis"), "Redis"),
    (python("import redis\nr = redis.Redis()", "flask\nredis"), "Redis"),
    (python("DB = 'postgresql://user:pw@localhost:5432/shop'"), "PostgreSQL"),
    (python("import os\nHOST = os.environ.get('POSTGRES_HOST', 'db')"), "PostgreSQL"),
    (express("const host = process.env.DB_HOST || 'localhost'"), "a database"),
    (
        python("c = {'default': Prod}\nclass Prod:\n    DB = 'postgresql://localhost/shop'"),
        "PostgreSQL",
    ),
    (python("USE_REDIS = True\nC = 'redis://localhost'"), "Redis"),
    (python("DB = 'mysql+pymysql://root@db/shop'", "flask\npymysql"), "MySQL"),
    (express("mongoose.connect('mongodb://127.0.0.1:27017/app')"), "MongoDB"),
    (express("const q = 'amqp://rabbitmq'"), "RabbitMQ"),
    ({"index.php": "<?php $db = new PDO('mysql:host=localhost;dbname=a', 'u', 'p');"}, "MySQL"),
    ({"index.php": "<?php $db = mysqli_connect('localhost', 'u', 'p');"}, "MySQL"),
    ({"index.php": "<?php", "wp-includes/version.php": "<?php $wp_version = '6';"}, "MySQL"),
]


@pytest.mark.parametrize(("files", "name"), SERVICES)
def test_service_beside_the_app_is_a_risk(files: dict[str, str], name: str) -> None:
    (risk,) = (it for it in plan(files).risks or () if it.code is RiskCode.SERVICE_ABSENT)
    assert risk.stops == "start"
    assert f"looks for {name} beside the app" in risk.message


def test_variable_with_an_address_of_this_machine_in_spring_is_named() -> None:
    text = "spring.datasource.url=${DB_URL:jdbc:postgresql://localhost:5432/shop}\n"
    files = {**SPRING, "src/application.properties": text}
    (risk,) = plan(files).risks or ()
    assert (risk.code, risk.variables) == ("service_absent", ("DB_URL",))
    assert codes(files, run_envs={"DB_URL": "jdbc:postgresql://db.example.com/shop"}) == []


def test_file_that_is_read_as_the_app_starts_is_a_risk_unless_it_is_there() -> None:
    files = python("import joblib\nmodel = joblib.load('model/a.pkl')", "flask\njoblib")
    (risk,) = plan(files).risks or ()
    assert (risk.code, risk.stops) == ("file_absent", "start")
    assert "reads model/a.pkl" in risk.message
    assert codes({**files, "model/a.pkl": ""}) == []
    assert codes(python("log = open('out.log', 'w')")) == []


def test_field_of_settings_names_the_variable_of_its_address() -> None:
    text = "class S(BaseSettings):\n    cache_url: str = 'redis://localhost'\n"
    files = python(f"from pydantic_settings import BaseSettings\n{text}")
    (risk,) = plan(files).risks or ()
    assert risk.variables == ("CACHE_URL",)


def test_address_that_a_variable_replaces_is_no_risk_once_that_is_set() -> None:
    text = "import os\nDB = os.environ.get('DATABASE_URL', 'postgresql://localhost/shop')"
    (risk,) = plan(python(text)).risks or ()
    assert risk.variables == ("DATABASE_URL",)
    assert "in settings.runEnvs.DATABASE_URL" in risk.message
    assert codes(python(text), run_envs={"DATABASE_URL": "postgresql://db.example.com/shop"}) == []


@pytest.mark.parametrize(
    "text",
    ["DB = 'postgresql://db.example.com/shop'", "# redis://localhost", "URL = 'http://localhost'"],
)
def test_service_of_the_internet_is_no_risk(text: str) -> None:
    assert codes(python(text)) == []


@pytest.mark.parametrize(
    ("files", "toolbox", "code", "says"),
    [
        (python("", "flask\npydub"), EVERYTHING, "program_absent", "ffmpeg"),
        (python("import subprocess\nsubprocess.run(['ffmpeg', '-i', x])"), EVERYTHING,
         "program_absent", "ffmpeg"),
        (express("", dependencies={"express": "4", "puppeteer": "23"}), EVERYTHING,
         "program_absent", "chromium"),
        (python("", "flask\nopencv-python"), EVERYTHING, "library_absent", "headless"),
        (python("", "flask\nmysqlclient"), EVERYTHING, "library_absent", "pymysql"),
        (express("", dependencies={"express": "4", "node-sass": "9"}), EVERYTHING,
         "library_absent", "sass"),
        (python("", "flask\ntorch"), SMALL, "disk_short", "1,024 MiB"),
        (python("", "flask\nsentence-transformers"), SMALL, "disk_short", "torch"),
        (python("import acme_billing"), EVERYTHING, "package_unknown", "acme_billing"),
        ({"index.php": "<?php new PDO('sqlite:a.db');"}, WITH_FFMPEG, "library_absent",
         "pdo_sqlite"),
        (python("", "flask\ntensorflow==2.10.0"), EVERYTHING, "no_wheel", "tensorflow"),
        (python("") | {"Procfile": "web: gunicorn app:app\nworker: python work.py\n"}, EVERYTHING,
         "process_left_out", "settings.kind \"worker\" and settings.runCommand 'python work.py'"),
        ({"server.py": "from mcp.server.fastmcp import FastMCP\ndef make():\n"
          "    m = FastMCP('a')\n    m.run(transport='streamable-http')\n",
          "requirements.txt": "mcp"}, EVERYTHING, "host_refused", "0.0.0.0"),
    ],
)  # fmt: skip
def test_what_the_app_lacks_here_is_a_risk(
    files: dict[str, str], toolbox: Toolbox, code: str, says: str
) -> None:
    (risk,) = plan(files, toolbox).risks or ()
    assert risk.code == code
    assert says in risk.message


@pytest.mark.parametrize(
    ("files", "toolbox"),
    [
        (python("c = {'default': Dev, 'production': Prod}\nclass Dev:\n    DB = 'sqlite://'\n"
                "class Prod:\n    DB = 'postgresql://localhost/shop'"), EVERYTHING),
        (python("USE_REDIS = os.getenv('USE_REDIS', 'false') == 'true'\n"
                "if USE_REDIS:\n    connect('redis://localhost')"), EVERYTHING),
        (python("def f():\n    '''Such as redis://localhost or none'''"), EVERYTHING),
        (python("import shutil, subprocess\nif shutil.which('ffmpeg'):\n"
                "    subprocess.run(['ffmpeg', '-i', x])"), EVERYTHING),
        (python("", "flask\npydub"), WITH_FFMPEG),
        ({"index.php": "<?php curl_init('https://example.com');"}, WITH_FFMPEG),
        (python("", "--extra-index-url https://download.pytorch.org/whl/cpu\nflask\ntorch"), SMALL),
        (python("", "flask\ntorch"), EVERYTHING),  # how large the disk is, is not known
        (python("import acme_billing", "flask\nacme"), EVERYTHING),  # which may bring it
        (python("import acme_billing") | {"acme_billing.py": ""}, EVERYTHING),
        (python("") | {"Procfile": "release: flask up\nweb: gunicorn app:app\n"}, EVERYTHING),
        ({"server.py": "from mcp.server.fastmcp import FastMCP\nm = FastMCP('a', host='0.0.0.0')\n"
          "m.run(transport='streamable-http')\n", "requirements.txt": "mcp"}, EVERYTHING),
        ({"index.html": "", "app.js": "fetch(process.env.X!); 'redis://localhost'"}, EVERYTHING),
    ],
)  # fmt: skip
def test_what_the_app_has_is_no_risk(files: dict[str, str], toolbox: Toolbox) -> None:
    assert codes(files, toolbox) == []


@pytest.mark.parametrize(
    ("files", "level"),
    [
        (python(""), Confidence.HIGH),
        (python("", "flask\npydub"), Confidence.MEDIUM),
        (python("import os\nK = os.environ['KEY']", "flask\npydub"), Confidence.LOW),
        (python("", "flask\nopencv-python"), Confidence.LOW),
    ],
)
def test_confidence_is_as_low_as_the_worst_risk(files: dict[str, str], level: Confidence) -> None:
    assert confidence(plan(files).risks or ()) is level


_SETTINGS = "from pydantic_settings import BaseSettings\nclass S(BaseSettings):\n    a: str\n"


@pytest.mark.parametrize(
    "text",
    [
        _SETTINGS + " " * 65_000,
        "import os\n" + "".join(f"os.environ['A{n}']\n" for n in range(3_000)),
        "import os\n" + "".join(f"  os.environ['A{n}']\n" for n in range(3_000)),
        "x = 'redis://db'\n" + "".join(f"class Prod{n}:\n  a\n" for n in range(3_000)),
        "x = OpenAI(" + " " * 65_000,
        "class " + "Prod" * 16_000 + " redis://db",
    ],
)
def test_sources_made_to_be_slow_are_searched_in_linear_time(text: str) -> None:
    # With a pattern of quadratic cost, or one search for each name, it takes long.
    begun = time.process_time()
    imports = "".join(f"import part{n}\n" for n in range(3))
    codes({f"part{n}.py": text for n in range(3)} | python(imports))
    assert time.process_time() - begun < 2


_CALLS = "createApp(process.env.NAME)\n"


@pytest.mark.parametrize(
    "text",
    [
        _CALLS + "a" * 65_000,
        _CALLS + f"{'y' * 119}\n" * 540,
        _CALLS + "if (" + "!a||" * 16_000,
    ],
    ids=["one word", "long lines", "a condition"],
)
def test_scripts_made_to_be_slow_are_searched_in_linear_time(text: str) -> None:
    # With a pattern that begins at each letter, or with the line before a call, it takes a second.
    files = {"package.json": '{"scripts": {"start": "node server.js"}}', "server.js": ""}
    begun = time.process_time()
    codes(files | {f"part{n}.js": text for n in range(4)})
    assert time.process_time() - begun < 0.4


def test_of_many_files_those_that_read_variables_are_searched_first() -> None:
    parts = {f"components/part{n:03}.js": "// a part of a page\n" * 400 for n in range(90)}
    reads = {"lib/db/queries.js": "const client = postgres(process.env.POSTGRES_URL!);\n"}
    risks = plan({**express("import './lib/db/queries.js'"), **parts, **reads}).risks or ()
    assert [risk.variables for risk in risks] == [("POSTGRES_URL",)]
