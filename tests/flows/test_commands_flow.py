"""Release commands and workers of real apps, over the whole gateway."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from support.clients.wallet import Answer, Wallet, fresh_name
from support.gateway.gateway_fixture import DevGateway, running
from support.gateway.waiting import until

pytestmark = pytest.mark.root

MIGRATE = "python manage.py migrate --noinput"
SHOP = {
    "requirements.txt": "django\n",
    "manage.py": (
        "import os, sys\n"
        "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')\n"
        "from django.core.management import execute_from_command_line\n"
        "execute_from_command_line(sys.argv)\n"
    ),
    "shop/__init__.py": "",
    "shop/settings.py": (
        "SECRET_KEY = 'of a test'\nALLOWED_HOSTS = ['*']\nROOT_URLCONF = 'shop.urls'\n"
        "INSTALLED_APPS = ['items']\nDEFAULT_AUTO_FIELD = 'django.db.models.AutoField'\n"
        "DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3',"
        " 'NAME': '/data/db.sqlite3'}}\n"
    ),
    "shop/wsgi.py": (
        "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')\n"
        "from django.core.wsgi import get_wsgi_application\n"
        "application = get_wsgi_application()\n"
    ),
    "shop/urls.py": (
        "from django.http import HttpResponse\nfrom django.urls import path\n"
        "from items.models import Item\n"
        "urlpatterns = [path('', lambda request: HttpResponse("
        "','.join(Item.objects.values_list('name', flat=True))))]\n"
    ),
    "items/__init__.py": "",
    "items/models.py": (
        "from django.db import models\n\n\nclass Item(models.Model):\n"
        "    name = models.CharField(max_length=20)\n"
    ),
    "items/migrations/__init__.py": "",
    "items/migrations/0001_initial.py": (
        "from django.db import migrations, models\n\n\nclass Migration(migrations.Migration):\n"
        "    operations = [migrations.CreateModel('Item', [\n"
        "        ('id', models.AutoField(primary_key=True)),\n"
        "        ('name', models.CharField(max_length=20))])]\n"
    ),
}


def step(number: int, does: str) -> dict[str, str]:
    """The shop with one more migration, which runs this code on `items`, the model's manager."""
    before = "0001_initial" if number == 2 else f"{number - 1:04}_step"
    return {
        f"items/migrations/{number:04}_step.py": (
            "from django.db import migrations\n\n\ndef change(apps, _):\n"
            f"    items = apps.get_model('items', 'Item').objects\n    {does}\n\n\n"
            "class Migration(migrations.Migration):\n"
            f"    dependencies = [('items', '{before}')]\n"
            "    operations = [migrations.RunPython(change)]\n"
        )
    }


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevGateway]:
    with running(tmp_path_factory.mktemp("commands"), requests_per_minute="100000") as started:
        yield started


async def log_of(wallet: Wallet, deployed: Answer, kind: str) -> str:
    project, deployment = deployed.body["projectId"], deployed.body["deploymentId"]
    path = f"/agent/deploy/{project}/{deployment}/logs?kind={kind}"
    answer = await wallet.call("GET", path)
    return "\n".join(line["text"] for line in answer.body["lines"])


async def redeployed(wallet: Wallet, name: str, files: dict[str, str], **settings: Any) -> Answer:
    headers = {"X-Use-Existing-Credits": "true"}
    answer = await wallet.deploy(name, files, headers=headers, settings=settings)
    assert answer.status == 200, answer.body
    return answer


async def test_migrations_of_django_run_before_the_switch_or_leave_the_old_version(
    gateway: DevGateway,
) -> None:
    wallet, name = await Wallet(gateway).fund(), fresh_name()
    settings = {"volume": True, "releaseCommand": MIGRATE}
    shop = SHOP | step(2, "items.create(name='tea')")
    first = await wallet.deploy_paid(name, shop, settings=settings)
    assert (await wallet.settled(first))["status"] == "ready"
    assert await wallet.visit(name) == (200, "tea")
    assert "Applying items.0002_step... OK" in await log_of(wallet, first, "build")

    broken = shop | step(3, "items.create(name='milk'); raise RuntimeError('no milk')")
    failed = await wallet.settled(await redeployed(wallet, name, broken, **settings))
    assert (failed["status"], failed["reason_code"]) == ("failed", "release_failed")
    assert "no milk" in failed["reason"]
    assert await wallet.visit(name) == (200, "tea")

    mended = shop | step(3, "items.create(name='milk')")
    ready = await wallet.settled(await redeployed(wallet, name, mended, **settings))
    assert ready["status"] == "ready"
    assert await wallet.visit(name) == (200, "tea,milk")


async def test_worker_of_node_does_what_its_queue_has(gateway: DevGateway) -> None:
    worker = (
        "const fs = require('fs');\n"
        "setInterval(() => { for (const job of fs.readdirSync('/data/queue')) {\n"
        "  const text = fs.readFileSync(`/data/queue/${job}`, 'utf8').trim();\n"
        "  console.log(`${job}: ${text * 2}`); fs.unlinkSync(`/data/queue/${job}`); } }, 100);\n"
    )
    wallet, name = await Wallet(gateway).fund(), fresh_name()
    files = {"worker.js": worker, "package.json": "{}", "Procfile": "worker: node worker.js\n"}
    enqueue = "mkdir -p /data/queue && echo 21 > /data/queue/job-1"
    settings = {"volume": True, "releaseCommand": enqueue}
    deployed = await wallet.deploy_paid(name, files, settings=settings)
    ready = await wallet.settled(deployed)
    assert (ready["status"], ready["endpoint"], ready["kind"]) == ("ready", None, "worker")

    async def is_done() -> bool:
        return "job-1: 42" in await log_of(wallet, deployed, "runtime")

    await until(is_done)
    listed = (await wallet.call("GET", "/agent/projects")).body["projects"]
    assert [(it["status"], it["url"], it["kind"]) for it in listed] == [("active", None, "worker")]
    domain = await wallet.call("POST", f"/agent/projects/{name}/domains", json={"domain": "a.org"})
    assert (domain.status, domain.body["field"]) == (400, "domain")
    assert (await wallet.visit(name))[0] == 404


async def test_release_that_the_gateways_death_cut_off_is_never_repeated(
    gateway: DevGateway,
) -> None:
    server = (
        "require('http').createServer((_, answer) => answer.end("
        "require('fs').readFileSync('/data/ran'))).listen(process.env.PORT);\n"
    )
    files = {"index.js": server, "package.json": '{"scripts": {"start": "node index.js"}}'}
    wallet, name = await Wallet(gateway).fund(), fresh_name()
    once = {"volume": True, "releaseCommand": "echo once >> /data/ran"}
    first = await wallet.deploy_paid(name, files, settings=once)
    assert (await wallet.settled(first))["status"] == "ready"

    lasting = {"releaseCommand": "echo again >> /data/ran; sleep 600"}
    second = await redeployed(wallet, name, files, **lasting)

    async def has_run() -> bool:
        return await wallet.visit(name) == (200, "once\nagain\n")

    await until(has_run)
    assert (await wallet.status(second)).body["deployment_status"] == "releasing"
    await asyncio.to_thread(gateway.kill)
    gateway.start()

    cut_off = await wallet.settled(second)
    assert (cut_off["status"], cut_off["reason_code"]) == ("failed", "interrupted")
    assert "look at your data" in cut_off["reason"]
    await wallet.until_answers(name)
    assert await wallet.visit(name) == (200, "once\nagain\n")
