"""The settings of a cluster that runs the apps, for isolation = kubernetes."""

from typing import Annotated

from moorage.settings.apps import AppSettings, setting

_NAME = r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?\Z"
_WEB = r"^(https?://[^\s\"<>\\]{1,500})?\Z"


class KubernetesSettings(AppSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the gateway reaches the cluster, and what it makes there."""

    kubernetes_config: Annotated[
        str,
        setting(
            "kubernetes",
            "The kubeconfig by which the gateway reaches the cluster. Empty: it is a pod of it.",
        ),
    ] = ""
    kubernetes_context: Annotated[
        str, setting("kubernetes", "The context of the kubeconfig. Empty: its current one.")
    ] = ""
    kubernetes_namespace: Annotated[
        str,
        setting(
            "kubernetes",
            "What the names of wallets' namespaces begin with. Gateways on one database have the"
            " same, others of the cluster another.",
            pattern=_NAME,
        ),
    ] = "moorage"
    kubernetes_registry: Annotated[
        str,
        setting(
            "kubernetes",
            "Where apps' images are put, such as `registry.example/apps`; nodes fetch them there.",
        ),
    ] = ""
    kubernetes_registry_credentials: Annotated[
        str,
        setting(
            "kubernetes",
            "The file with the gateway's credentials for this registry, as Docker's `config.json`.",
        ),
    ] = ""
    kubernetes_pull_credentials: Annotated[
        str,
        setting(
            "kubernetes",
            "The same for nodes, of an account that only pulls. Empty: nodes need none.",
        ),
    ] = ""
    kubernetes_base_days: Annotated[
        int,
        setting(
            "kubernetes",
            "Days after which a base image that no build has used is removed from the registry.",
            ge=1,
        ),
    ] = 30
    kubernetes_base_gib: Annotated[
        int,
        setting(
            "kubernetes",
            "What all base images in the registry may have, in GiB, each counted whole; beyond it"
            " the one that was used the longest ago goes.",
            ge=1,
        ),
    ] = 50
    kubernetes_own_image: Annotated[
        str,
        setting(
            "kubernetes",
            "Moorage's own image, of this version, for the pods of builds and of the self-test.",
        ),
    ] = ""
    kubernetes_build_url: Annotated[
        str,
        setting(
            "kubernetes",
            "The URL by which the pods of builds reach `kubernetes_build_port` of this gateway.",
            pattern=_WEB,
        ),
    ] = ""
    kubernetes_build_host: Annotated[
        str, setting("kubernetes", "The address that the gateway listens on for them.")
    ] = "0.0.0.0"  # noqa: S104 (a pod's own address is not known before)
    kubernetes_build_port: Annotated[
        int, setting("kubernetes", "The port of it, which policies name.", ge=1, le=65_535)
    ] = 8404
    kubernetes_architecture: Annotated[
        str, setting("kubernetes", "The nodes' architecture, for which images are made.")
    ] = "amd64"
    kubernetes_runtime_class: Annotated[
        str,
        setting(
            "kubernetes",
            "The runtime class of all pods, such as gvisor or kata, which the gateway proves at its"
            " start. Empty: the nodes' own.",
        ),
    ] = ""
    kubernetes_user_namespaces: Annotated[
        bool,
        setting(
            "kubernetes", "Give pods user ids that are none of the node's, where nodes can do so."
        ),
    ] = False
    kubernetes_storage_class: Annotated[
        str,
        setting("kubernetes", "The storage class of volumes. Empty: the cluster's default."),
    ] = ""
    kubernetes_networks: Annotated[
        tuple[str, ...],
        setting(
            "kubernetes",
            "The cluster's own networks, of pods, services and nodes, which apps must not reach.",
        ),
    ] = ()
    kubernetes_resolvers: Annotated[
        tuple[str, ...],
        setting(
            "kubernetes",
            "The addresses of name servers for pods, such as public ones, which know none of the"
            " cluster's services. Empty: the cluster's own, pods of kube-system.",
        ),
    ] = ()
    kubernetes_gateway_namespace: Annotated[
        str,
        setting(
            "kubernetes",
            "The namespace of the gateways' own pods. Empty: they are outside the cluster.",
        ),
    ] = "moorage"
    kubernetes_gateway_networks: Annotated[
        tuple[str, ...],
        setting("kubernetes", "From where gateways connect to apps that are outside the cluster."),
    ] = ()
    kubernetes_apps_per_wallet: Annotated[
        int,
        setting(
            "kubernetes", "How many apps of a wallet run at once; a quota holds them to it.", ge=1
        ),
    ] = 20
    kubernetes_memory_mib: Annotated[
        int,
        setting(
            "kubernetes",
            "Memory for all apps together, in MiB. 0: what the nodes have for pods.",
            ge=0,
        ),
    ] = 0
    kubernetes_docker_host: Annotated[
        str,
        setting(
            "kubernetes",
            "The Docker daemon that builds Dockerfiles: unix:///path on this machine, or"
            " tcp://host:port with certificates. Empty: Dockerfiles are refused.",
        ),
    ] = ""
    kubernetes_docker_certificates: Annotated[
        str,
        setting(
            "kubernetes",
            "The directory with ca.pem, cert.pem and key.pem, by which a daemon on another machine"
            " and the gateway know each other.",
        ),
    ] = ""
