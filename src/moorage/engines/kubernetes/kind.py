"""The Kubernetes engine's entry in the table of engines."""

from functools import partial

from moorage.engines.engine import Capabilities, Engine
from moorage.engines.host.configuration import PODS, HostConfiguration
from moorage.engines.images.base_images import toolbox_of_images
from moorage.engines.kind import EngineKind, EngineOptions
from moorage.errors import ConfigurationInvalid
from moorage.planning.toolbox import Dockerfiles

CAPABILITIES = Capabilities(dockerfiles=True, owners_apart=True)


def _make(configuration: HostConfiguration, options: EngineOptions) -> Engine:
    for name in ("registry", "own_image", "builder"):
        if not getattr(options.cluster, name):
            raise ConfigurationInvalid(f"kubernetes_{name} is needed for isolation = kubernetes")
    # lightkube and what it needs are imported only where a cluster is used.
    from moorage.engines.kubernetes.engine import KubernetesEngine  # noqa: PLC0415
    from moorage.engines.kubernetes.images import opened_images  # noqa: PLC0415

    return KubernetesEngine(
        configuration,
        options.cluster,
        keeps=options.keeps,
        make_builder=partial(opened_images, configuration, options),
    )


KIND = EngineKind(
    name="kubernetes",
    capabilities=CAPABILITIES,
    run_directory=lambda data_dir: data_dir / "run",
    missing=lambda _run_dir: (),  # what the cluster lacks is found out when the engine is opened
    has_images=True,
    forwards_packets=False,
    make=_make,
    machine_bound=False,
    folder=PODS,
    offered=lambda own, _options: toolbox_of_images(own, Dockerfiles.ROOTLESS),
    exports=None,
)
