"""The objects of a cluster as pure data: a frozen record in, a manifest out.

`tests/unit/engines/kubernetes/golden` has one of each, whole.
"""

from moorage.engines.kubernetes.objects.app import App, app_objects, volume_claim
from moorage.engines.kubernetes.objects.labels import record_name
from moorage.engines.kubernetes.objects.namespace import Quota, namespace_objects, pull_secret
from moorage.engines.kubernetes.objects.network import Networks
from moorage.engines.kubernetes.objects.permissions import questions
from moorage.engines.kubernetes.objects.pod import Manifest, PodOptions
from moorage.engines.kubernetes.objects.self_test import SelfTest, self_test_objects

__all__ = [
    "App",
    "Manifest",
    "Networks",
    "PodOptions",
    "Quota",
    "SelfTest",
    "app_objects",
    "namespace_objects",
    "pull_secret",
    "questions",
    "record_name",
    "self_test_objects",
    "volume_claim",
]
